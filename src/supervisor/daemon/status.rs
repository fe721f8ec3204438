//! What a supervisor says of its daemon.

use super::{Stage, Supervisor};
use crate::supervisor::protocol::{ExitStatus, Phase, Reply, Status};
use crate::sys::process::Exit;
use crate::sys::time;

impl Supervisor {
    /// How the daemon is.
    pub(super) fn status(&self) -> Reply {
        let spec = &self.current.spec;
        let state = match &self.stage {
            Stage::Building(_) => Phase::Pending,
            Stage::Up { settled: true, .. } => Phase::Running,
            Stage::Up { .. } => Phase::Starting,
            Stage::Waiting { .. } => Phase::CrashLooping,
            Stage::Stopping { .. } | Stage::Done => Phase::Stopping,
        };
        Reply::Status(Box::new(Status {
            state,
            since: self.since.clone(),
            pid: self.child.as_ref().and_then(|child| child.program),
            started_at: self.started_at.clone(),
            restarts: self.state.restarts,
            last_exit: self.state.last_exit.clone(),
            next_start_at: self.next_start_at.clone(),
            failure: self.failure.clone(),
            unlimited: self.limited.failure.clone(),
            rolled_back: self.rolled_back.clone(),
            version: spec.version.clone(),
            was_up: self.state.good_version.as_ref() == Some(&spec.version),
            image: spec.image.clone(),
            digest: spec.digest.clone(),
        }))
    }
}

/// The time, as text.
pub fn now() -> String {
    time::rfc3339(time::wall())
}

/// How a process has just ended.
pub fn last_exit(exit: Exit) -> ExitStatus {
    ExitStatus::new(exit, false, now())
}
