//! Whether the limits that a stack asks for can be had here.

use super::layout::Layout;
use crate::error::Issue;
use crate::model::{Daemon, Stack};
use crate::preflight::{Check, Status};
use crate::sandbox::Failure;
use crate::sandbox::cgroup::{Group, Limits};
use crate::supervisor::{lock, scanner};
use crate::sys::process::Pid;
use std::sync::atomic::{AtomicU32, Ordering};

/// A kind of limit: the field that asks for it, whether a daemon does, and one to try.
type Kind = (&'static str, fn(&Daemon) -> bool, Limits);

const KINDS: [Kind; 2] = [
    ("cpu", |daemon| daemon.cpu.is_some(), Limits { cpu_millis: Some(1000), memory_bytes: None }),
    ("memory", |daemon| daemon.memory.is_some(), Limits { cpu_millis: None, memory_bytes: Some(1 << 30) }),
];

/// The check of `cpu` and `memory`: a warning for each that will not hold.
pub fn enforced(layout: &Layout, stack: &Stack) -> Check {
    let mut issues = Vec::new();
    let mut status = Status::Skipped;
    for (field, asks, trial) in KINDS {
        let mut daemons = stack.daemons().filter(|daemon| asks(daemon)).peekable();
        if daemons.peek().is_none() {
            continue;
        }
        match attempt(layout, &trial) {
            Ok(()) if status == Status::Skipped => status = Status::Passed,
            Ok(()) => {}
            Err(why) => {
                status = Status::Warning;
                issues.extend(daemons.map(|daemon| issue(daemon, field, &why)));
            }
        }
    }
    Check { id: "limits-are-enforced", description: "CPU shares and memory limits hold".into(), status, issues }
}

/// Why limits cannot be had here, each reason once.
pub fn refused(layout: &Layout) -> Vec<Failure> {
    let mut all: Vec<Failure> = KINDS.iter().filter_map(|(.., trial)| attempt(layout, trial).err()).collect();
    all.dedup();
    all
}

fn issue(daemon: &Daemon, field: &str, why: &Failure) -> Issue {
    let path = ["resources", &daemon.id, "config", field].map(Into::into).to_vec();
    let message = format!("{}; the daemon runs without it", why.message);
    Issue { hint: why.hint.clone(), ..Issue::new(path, "custom", message) }
}

/// Makes a group and removes it again: what this machine lacks, it lacks for every daemon. Where a scanner is there already,
/// daemons are below its group: a unit's may have what a session's has not.
fn attempt(layout: &Layout, limits: &Limits) -> Result<(), Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("alien-try-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let keeper = lock::holder(&layout.root().join(scanner::LOCK)).unwrap_or_else(|| std::process::id() as Pid);
    Group::make_for(keeper, &name, limits).map(|group| group.remove(None))
}
