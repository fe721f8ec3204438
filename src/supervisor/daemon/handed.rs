//! A supervisor's work, to be gone on with by another program in the same process.

use super::limited::Limited;
use super::{Stage, Supervisor, Then, Version};
use crate::sandbox::{Failure, Namespaces};
use crate::supervisor::child::Child;
use crate::supervisor::control::Server;
use crate::supervisor::handover::{self, adopt};
use crate::supervisor::lock::Lock;
use crate::supervisor::log::Log;
use crate::supervisor::protocol::RolledBack;
use crate::supervisor::spec::Spec;
use crate::supervisor::state::State;
use crate::sys::process::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Everything that a supervisor knows and holds at a quiet moment; descriptors by their numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    lock: RawFd,
    server: RawFd,
    notify: RawFd,
    current: HandedVersion,
    former: Option<HandedVersion>,
    limited: Limited,
    stage: HandedStage,
    child: Option<HandedChild>,
    state: State,
    failure: Option<Failure>,
    rolled_back: Option<RolledBack>,
    since: String,
    started_at: Option<String>,
    next_start_at: Option<String>,
    /// Beginnings of lines whose ends have not come.
    held: [Vec<u8>; 2],
}

#[derive(Serialize, Deserialize)]
struct HandedVersion {
    spec: Spec,
    namespaces: Option<[RawFd; 4]>,
}

#[derive(Serialize, Deserialize)]
struct HandedChild {
    version: String,
    init: Pid,
    running: bool,
    program: Option<Pid>,
    socket: RawFd,
    outputs: [RawFd; 2],
}

/// The stages in which nothing is half done. Times are those of [`crate::sys::time::monotonic`], which goes on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum HandedStage {
    Up { since: Duration, settled: bool },
    Waiting { until: Duration },
    Stopping { kill_at: Duration, killed: bool, start: bool },
}

impl HandedStage {
    fn of(stage: &Stage) -> Option<Self> {
        match *stage {
            Stage::Up { since, settled } => Some(HandedStage::Up { since, settled }),
            Stage::Waiting { until } => Some(HandedStage::Waiting { until }),
            Stage::Stopping { kill_at, killed, then } => {
                Some(HandedStage::Stopping { kill_at, killed, start: then == Then::Start })
            }
            Stage::Building(_) | Stage::Done => None,
        }
    }
}

impl From<HandedStage> for Stage {
    fn from(stage: HandedStage) -> Self {
        match stage {
            HandedStage::Up { since, settled } => Stage::Up { since, settled },
            HandedStage::Waiting { until } => Stage::Waiting { until },
            HandedStage::Stopping { kill_at, killed, start } => {
                Stage::Stopping { kill_at, killed, then: if start { Then::Start } else { Then::Exit } }
            }
        }
    }
}

impl Supervisor {
    /// Becomes the program that the state directory wants, if that is another one and this is a moment for it. What is
    /// half done is done first: then the next turn tries again.
    pub(super) fn renew(&mut self, state_dir: &Path, lock: &Lock) {
        let quiet = self.child.as_ref().is_none_or(|child| child.exit.is_none() && child.failure.is_none());
        let (Some(stage), None, None, true) = (HandedStage::of(&self.stage), &self.update, &self.next, quiet) else {
            return;
        };
        self.renewal = false;
        let become_it = || {
            let Some(program) = handover::newer(state_dir)? else { return Ok(()) };
            let work = self.work(stage, lock);
            let open = work.descriptors();
            handover::hand_over(&program, &[Path::new("run"), state_dir, &self.dir], &work, &open).map(drop)
        };
        if let Err(error) = become_it() {
            eprintln!("{}: its supervisor stays the program that it is: {error}", self.dir.display());
        }
    }

    fn work(&self, stage: HandedStage, lock: &Lock) -> Work {
        let version = |version: &Version| HandedVersion {
            spec: version.spec.clone(),
            namespaces: version.namespaces.as_ref().map(Namespaces::descriptors),
        };
        Work {
            lock: lock.as_raw_fd(),
            server: self.server.as_raw_fd(),
            notify: self.notify.as_raw_fd(),
            current: version(&self.current),
            former: self.former.as_ref().map(version),
            limited: self.limited.clone(),
            stage,
            child: self.child.as_ref().map(|child| HandedChild {
                version: child.version.clone(),
                init: child.init,
                running: child.running,
                program: child.program,
                socket: child.socket.as_raw_fd(),
                outputs: child.outputs.each_ref().map(AsRawFd::as_raw_fd),
            }),
            state: self.state.clone(),
            failure: self.failure.clone(),
            rolled_back: self.rolled_back.clone(),
            since: self.since.clone(),
            started_at: self.started_at.clone(),
            next_start_at: self.next_start_at.clone(),
            held: self.log.held(),
        }
    }
}

impl Work {
    fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.lock, self.server, self.notify];
        let versions = [Some(&self.current), self.former.as_ref()];
        all.extend(versions.into_iter().flatten().filter_map(|version| version.namespaces).flatten());
        all.extend(self.child.iter().flat_map(|child| [child.socket, child.outputs[0], child.outputs[1]]));
        all
    }

    /// The supervisor that goes on with it, and the lock that it holds.
    pub(super) fn take_up(self, dir: &Path) -> io::Result<(Supervisor, Lock)> {
        let version = |handed: HandedVersion| -> io::Result<Version> {
            let namespaces = handed.namespaces.map(|[user, ipc, uts, mnt]| {
                Ok::<_, io::Error>(Namespaces::adopted([adopt(user)?, adopt(ipc)?, adopt(uts)?, adopt(mnt)?]))
            });
            Ok(Version { spec: handed.spec, namespaces: namespaces.transpose()? })
        };
        let child = |handed: HandedChild| -> io::Result<Child> {
            let [stdout, stderr] = handed.outputs;
            Ok(Child {
                version: handed.version,
                init: handed.init,
                ready: false,
                running: handed.running,
                program: handed.program,
                exit: None,
                failure: None,
                socket: adopt(handed.socket)?,
                outputs: [adopt(stdout)?, adopt(stderr)?],
                reaped: false,
            })
        };
        let current = version(self.current)?;
        let mut log = Log::new(dir, current.spec.log)?;
        log.hold(self.held);
        let supervisor = Supervisor {
            dir: dir.to_owned(),
            current,
            former: self.former.map(version).transpose()?,
            limited: self.limited,
            update: None,
            stage: self.stage.into(),
            child: self.child.map(child).transpose()?,
            next: None,
            state: self.state,
            failure: self.failure,
            rolled_back: self.rolled_back,
            since: self.since,
            started_at: self.started_at,
            next_start_at: self.next_start_at,
            log,
            notify: adopt(self.notify)?.into(),
            server: Server::adopted(adopt(self.server)?),
            renewal: false,
        };
        Ok((supervisor, Lock::adopted(adopt(self.lock)?)))
    }
}
