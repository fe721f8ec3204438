//! The daemon's limits: its control group, from the first start that has any to the supervisor's end.

use crate::sandbox::Failure;
use crate::sandbox::cgroup::{Group, Limits};
use crate::supervisor::spec;
use serde::{Deserialize, Serialize};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// The group, and what is known of it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Limited {
    group: Option<Group>,
    limits: Limits,
    /// Why there is none though there should be.
    pub failure: Option<Failure>,
    /// Kills for want of memory before the current run.
    kills: u64,
}

impl Limited {
    /// What a predecessor has left.
    pub fn found(dir: &Path) -> Limited {
        Limited { group: spec::read(&dir.join(spec::CGROUP)).ok(), ..Limited::default() }
    }

    /// Makes what comes be under these limits, as far as they can be had.
    pub fn by(&mut self, limits: &Limits, dir: &Path) {
        if *limits != self.limits || (self.group.is_none() && !limits.is_empty()) {
            self.renew(limits, dir);
        }
    }

    /// The group that an init belongs in; `None` where there are no limits, or they cannot be had.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The program is about to start.
    pub fn begin_run(&mut self) {
        self.kills = self.kills();
    }

    /// Makes the group for these limits, in place of the one there is.
    fn renew(&mut self, limits: &Limits, dir: &Path) {
        let former = self.group.take();
        self.failure = None;
        self.limits.clone_from(limits);
        if !limits.is_empty() {
            match Group::make(&name(dir), limits) {
                Ok(group) => self.group = Some(group),
                Err(failure) => self.failure = Some(failure),
            }
        }
        // A supervisor that was started from elsewhere may have had it elsewhere.
        if let Some(former) = former.filter(|former| self.group.as_ref() != Some(former)) {
            former.remove(self.group.as_ref());
        }
        self.note(dir);
    }

    fn note(&self, dir: &Path) {
        let noted = match &self.group {
            Some(group) => spec::write(&dir.join(spec::CGROUP), group),
            None => fs::remove_file(dir.join(spec::CGROUP)).or(Ok(())),
        };
        if let Err(error) = noted {
            eprintln!("{error}");
        }
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, Group::oom_kills)
    }

    /// Whether a process was killed for want of memory since the last start.
    pub fn was_exceeded(&self) -> bool {
        self.kills() > self.kills
    }

    /// Removes the group: nothing runs any more.
    pub fn end(&mut self, dir: &Path) {
        self.renew(&Limits::default(), dir);
    }
}

/// Removes the group of a daemon that nobody supervises any more.
pub fn remove(dir: &Path) {
    Limited::found(dir).end(dir);
}

/// The group's name: one for each daemon of each state directory.
fn name(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("alien-{:016x}", hasher.finish())
}
