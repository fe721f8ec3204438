//! Whether a stack can run on a platform, told before anything is touched. Pure: no I/O, no provider.
//!
//! Every check runs, none stops the others, and each says what it looked at even when there is nothing to say.

mod bindings;
mod code;
mod graph;
mod names;
mod options;
mod platform;

pub use options::Options;

use crate::error::{Issue, PathSegment};
use crate::model::{Bindings, Daemon, Platform, Stack};
use serde::Serialize;
use std::borrow::Cow;

/// What came out. JSON: `{platform, ok, checks:[{id, description, status, issues}]}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub platform: Platform,
    /// Whether no check failed; warnings do not count.
    pub ok: bool,
    pub checks: Vec<Check>,
}

/// One check's outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Stable, kebab case.
    pub id: &'static str,
    /// What holds when the check passes.
    pub description: Cow<'static, str>,
    pub status: Status,
    /// Problems; paths are those of the built stack. Empty when passed or skipped.
    pub issues: Vec<Issue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Passed,
    /// It will run, though not as the stack says.
    Warning,
    Failed,
    /// Says nothing about this platform.
    Skipped,
}

impl Report {
    /// Adds what a platform found out about itself.
    pub fn add(&mut self, checks: Vec<Check>) {
        self.ok &= checks.iter().all(|check| check.status != Status::Failed);
        self.checks.extend(checks);
    }

    /// The problems of all failed checks.
    pub fn failed_issues(&self) -> impl Iterator<Item = &Issue> {
        self.checks.iter().filter(|check| check.status == Status::Failed).flat_map(|check| &check.issues)
    }
}

/// What the deploy was given besides the stack.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// External bindings by the id of their resource.
    pub bindings: Bindings,
}

/// What a check looks at.
struct Subject<'s> {
    stack: &'s Stack,
    platform: Platform,
    given: &'s Given,
}

impl Subject<'_> {
    /// Whether this version has an engine for the platform; what such platforms lack is said once, not by every check.
    fn can_run(&self) -> bool {
        matches!(self.platform, Platform::Local | Platform::Kubernetes)
    }
}

/// A check: its names, what its issues mean, and the rule, which answers `None` where it does not apply.
struct Rule {
    id: &'static str,
    description: &'static str,
    on_issue: Status,
    run: fn(&Subject) -> Option<Vec<Issue>>,
}

const RULES: [Rule; 9] = [
    platform::SUPPORTED,
    platform::LISTED,
    code::IS_IMAGE,
    code::TRANSPORT,
    graph::NO_CYCLES,
    bindings::BINDABLE,
    bindings::KNOWN,
    bindings::VARIABLES,
    names::DISTINCT,
];

/// Runs every check.
pub fn run(stack: &Stack, platform: Platform) -> Report {
    run_with(stack, platform, &Given::default())
}

/// Runs every check, knowing what the deploy is given.
pub fn run_with(stack: &Stack, platform: Platform, given: &Given) -> Report {
    let subject = Subject { stack, platform, given };
    let checks: Vec<Check> = RULES
        .iter()
        .map(|rule| {
            let (status, issues) = match (rule.run)(&subject) {
                None => (Status::Skipped, Vec::new()),
                Some(issues) if issues.is_empty() => (Status::Passed, issues),
                Some(issues) => (rule.on_issue, issues),
            };
            Check { id: rule.id, description: rule.description.into(), status, issues }
        })
        .collect();
    Report { platform, ok: checks.iter().all(|check| check.status != Status::Failed), checks }
}

/// The path of a resource's field, as `["resources", id, "config", …]`.
fn config_path(id: &str, fields: &[PathSegment]) -> Vec<PathSegment> {
    let mut path: Vec<PathSegment> = vec!["resources".into(), id.into(), "config".into()];
    path.extend_from_slice(fields);
    path
}

/// An issue at a daemon's field.
fn at_daemon(daemon: &Daemon, fields: &[PathSegment], message: impl Into<String>) -> Issue {
    Issue::new(config_path(&daemon.id, fields), "custom", message)
}

#[cfg(test)]
mod tests;
