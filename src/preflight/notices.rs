//! What the stack asks for and this version does not do yet. The daemons run all the same.

use super::{Rule, Status, Subject, at_daemon};
use crate::error::Issue;
use crate::model::Platform;

pub(super) const COMMANDS: Rule = Rule {
    id: "commands-have-a-manager",
    description: "Where commands are enabled, a manager can deliver them",
    on_issue: Status::Warning,
    run: commands,
};

pub(super) const LIMITS: Rule = Rule {
    id: "limits-are-enforced",
    description: "CPU shares and memory limits hold",
    on_issue: Status::Warning,
    run: limits,
};

fn commands(subject: &Subject) -> Option<Vec<Issue>> {
    let mut daemons = subject.stack.daemons().filter(|daemon| daemon.commands_enabled).peekable();
    if !subject.can_run() || daemons.peek().is_none() {
        return None;
    }
    // Local starts its own, and into a cluster one is installed. Whether it is there the cluster has to be asked.
    Some(Vec::new())
}

fn limits(subject: &Subject) -> Option<Vec<Issue>> {
    if subject.platform != Platform::Local {
        return None;
    }
    let mut issues = Vec::new();
    for daemon in subject.stack.daemons() {
        for (field, set) in [("cpu", daemon.cpu.is_some()), ("memory", daemon.memory.is_some())] {
            if set {
                let message = format!("{field} is not enforced on Local by this version: the daemon runs without it");
                issues.push(at_daemon(daemon, &[field.into()], message).hint("on Kubernetes it is"));
            }
        }
    }
    Some(issues)
}
