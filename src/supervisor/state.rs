//! What a supervisor remembers over its own death.

use super::protocol::ExitStatus;
use super::spec;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "state.json";

/// Counts and the last end of a daemon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Starts after the first one that nobody asked for.
    pub restarts: u64,
    /// Short runs in a row.
    pub failures: u32,
    /// How the last run ended.
    pub last_exit: Option<ExitStatus>,
    /// Whether a program was running when this was written: then its end was not seen.
    pub running: bool,
    /// The version that was last up, so that only a version which worked is gone back to.
    pub good_version: Option<String>,
}

impl State {
    /// What was remembered last; nothing where there is no file, or one that a crash of the machine has spoilt.
    pub fn load(dir: &Path) -> State {
        spec::read(&dir.join(FILE)).unwrap_or_default()
    }

    /// Remembers. A full disk costs the memory of counts, not the daemon.
    pub fn save(&self, dir: &Path) {
        let _ = spec::write(&dir.join(FILE), self);
    }
}
