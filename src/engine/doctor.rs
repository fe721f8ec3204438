//! What is the matter with a place where daemons run, and what was done about it.

use crate::preflight::{Check, Status};
use serde::Serialize;

/// What came out. JSON: `{ok, checks:[{id, description, status, issues}], mended}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// Whether no check failed, after what was mended.
    pub ok: bool,
    pub checks: Vec<Check>,
    /// What was wrong and is not any more, a sentence each; with a dry run, what would be.
    pub mended: Vec<String>,
}

impl Checkup {
    /// Puts it together.
    pub fn new(checks: Vec<Check>, mended: Vec<String>) -> Checkup {
        Checkup { ok: checks.iter().all(|check| check.status != Status::Failed), checks, mended }
    }

    /// This one, and what another one has found.
    pub fn and(mut self, other: Checkup) -> Checkup {
        self.checks.extend(other.checks);
        self.mended.extend(other.mended);
        Checkup::new(self.checks, self.mended)
    }
}
