//! Can what is linked be bound, and does each binding have a place of its own.

use super::{Rule, Status, Subject, at_daemon};
use crate::error::Issue;
use crate::model::names::binding_variable;
use crate::model::{ExternalBinding, Platform, ResourceType, did_you_mean};

pub(super) const BINDABLE: Rule = Rule {
    id: "links-can-be-bound",
    description: "Everything that is linked can be bound on the platform",
    on_issue: Status::Failed,
    run: bindable,
};

pub(super) const KNOWN: Rule = Rule {
    id: "bindings-are-used",
    description: "Every external binding is for a resource of its type that takes one",
    on_issue: Status::Failed,
    run: known,
};

pub(super) const VARIABLES: Rule = Rule {
    id: "binding-variables-distinct",
    description: "No two links of a daemon arrive in the same variable",
    on_issue: Status::Failed,
    run: variables,
};

/// Whether a resource of that type lives outside a cluster, so that its binding must be given.
fn external(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::Storage | ResourceType::Kv | ResourceType::Queue)
}

fn bindable(subject: &Subject) -> Option<Vec<Issue>> {
    if !subject.can_run() {
        return None;
    }
    let mut issues = Vec::new();
    for daemon in subject.stack.daemons() {
        for (index, link) in daemon.links.iter().enumerate() {
            let at = ["links".into(), index.into()];
            if link.kind == ResourceType::Daemon {
                let message =
                    format!("\"{}\" is a daemon, and a daemon has nothing to bind: it has no address", link.id);
                issues.push(at_daemon(daemon, &at, message).hint("take out the link"));
            } else if subject.platform == Platform::Kubernetes
                && external(link.kind)
                && !subject.given.bindings.contains_key(&link.id)
                // What is not granted is not bound either, and so need not be given.
                && subject.stack.grants(&daemon.id, &link.id).any()
            {
                let message =
                    format!("the {} \"{}\" has no binding: Kubernetes has none of its own", link.kind, link.id);
                let hint = format!(
                    "give deploy one: bindings: {{ \"{}\": {{ type: \"{}\", service: … }} }} (--binding ID=JSON)",
                    link.id, link.kind
                );
                issues.push(at_daemon(daemon, &at, message).hint(hint));
            }
        }
    }
    Some(issues)
}

fn known(subject: &Subject) -> Option<Vec<Issue>> {
    if !subject.can_run() || subject.given.bindings.is_empty() {
        return None;
    }
    let issue = |(id, binding): (&String, &ExternalBinding)| {
        let issue = |message: String| Issue::new(vec!["bindings".into(), id.as_str().into()], "custom", message);
        match subject.stack.resources.get(id).map(|entry| entry.config.kind()) {
            None => {
                let near = did_you_mean(id, subject.stack.resources.keys());
                let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                Some(issue(format!("no resource \"{id}\" is in the stack{near}")))
            }
            Some(ResourceType::Daemon) => Some(issue(format!("\"{id}\" is a daemon, which takes no binding"))),
            Some(_) if subject.platform == Platform::Local => {
                let issue = issue(format!("\"{id}\" is bound by Local itself, which takes no external bindings"));
                Some(issue.hint("give bindings when deploying to kubernetes only"))
            }
            Some(kind) if kind != binding.kind => {
                let issue =
                    issue(format!("\"{id}\" is a {kind}, and its binding says {} ({})", binding.kind, binding.service));
                Some(issue.hint(format!("give it the binding of a {kind}, or correct its id")))
            }
            Some(_) => None,
        }
    };
    Some(subject.given.bindings.iter().filter_map(issue).collect())
}

fn variables(subject: &Subject) -> Option<Vec<Issue>> {
    let mut issues = Vec::new();
    for daemon in subject.stack.daemons() {
        for (index, link) in daemon.links.iter().enumerate() {
            let variable = binding_variable(&link.id);
            let same = daemon.links[..index].iter().find(|earlier| binding_variable(&earlier.id) == variable);
            if let Some(earlier) = same {
                let message = format!("\"{}\" and \"{}\" would both arrive in {variable}", earlier.id, link.id);
                let issue = at_daemon(daemon, &["links".into(), index.into()], message);
                issues.push(issue.hint("rename one: in variables, - and _ are the same, and so are a and A"));
            }
        }
    }
    Some(issues)
}
