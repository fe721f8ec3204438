//! Errors that every platform has: one code, and the same words.

use super::status::ExitStatus;
use crate::error::Report;
use serde_json::json;

/// The error of every call about a deployment that does not exist. `place` is where it was looked for, `elsewhere` how to
/// look in another place.
pub fn no_deployment(name: &str, place: &str, others: &[String], elsewhere: &str) -> Report {
    let known = if others.is_empty() { "there is none".to_owned() } else { format!("there is: {}", others.join(", ")) };
    Report::new("DEPLOYMENT_NOT_FOUND", format!("there is no deployment {name:?} in {place}; {known}"))
        .status(404)
        .with("deployment", name)
        .hint(format!("deploy it first, or name another with --name; {elsewhere}"))
}

/// The error of every call about a daemon that the deployment does not have. `there` is what it has, in the order of the
/// stack.
pub fn no_daemon(deployment: &str, id: &str, there: &[&str]) -> Report {
    Report::new("RESOURCE_NOT_FOUND", format!("there is no daemon {id:?} in deployment {deployment:?}"))
        .status(404)
        .with("deployment", deployment)
        .with("daemon", id)
        .hint(format!("there is: {}", there.join(", ")))
}

/// What to do about a daemon that is left crash-looping, where others than its supervisor run its container. They hear of
/// its end in one way and of the kernel's want of memory in another, and miss some of the second.
pub fn left_crash_looping(logs: &str, exit: Option<&ExitStatus>) -> String {
    let untold = match exit {
        Some(exit) if exit.signal.as_deref() == Some("SIGKILL") && !exit.oom => {
            "if nobody sent it that, memory was wanting: not every such end is told as one; "
        }
        _ => "",
    };
    format!("{untold}it is left crash-looping; see `{logs}`, mend it and deploy again")
}

/// The error of a program that has ended: how, where that is known, and what it printed last.
pub fn ended(report: Report, exit: Option<&ExitStatus>, lines: Vec<String>) -> Report {
    with_last_lines(with_last_exit(report, exit), lines)
}

/// The same of one whose output is not known.
pub fn with_last_exit(report: Report, exit: Option<&ExitStatus>) -> Report {
    match exit {
        Some(exit) => report.with("lastExit", json!(exit)),
        None => report,
    }
}

fn with_last_lines(mut report: Report, lines: Vec<String>) -> Report {
    if lines.is_empty() {
        report.message.push_str("\nIt printed nothing.");
    } else {
        report.message.push_str("\nIts last lines:");
        lines.iter().for_each(|line| report.message.push_str(&format!("\n  {line}")));
    }
    report.with("lastLines", lines)
}
