//! One daemon's folder: a supervisor for it while it is wanted, its removal once it is not.

use super::{THROTTLE, entries};
use crate::sandbox::copy;
use crate::sandbox::ids::{self, Ids};
use crate::supervisor::daemon::limited;
use crate::supervisor::protocol::{CONTROL, Op, Request, VERSION};
use crate::supervisor::spec::{self, Document};
use crate::supervisor::{handover, lock};
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{socket, time};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// One daemon's folder, and who looks after it.
pub(super) struct Kept {
    pub(super) dir: PathBuf,
    /// Its supervisor: pid, a handle that is readable once it has ended, and when we started it.
    pub(super) supervisor: Option<(Pid, OwnedFd, Duration)>,
    /// The child that removes the folder.
    pub(super) remover: Option<Pid>,
    /// Nothing is tried before this.
    pub(super) not_before: Duration,
    pub(super) told_to_end: bool,
    /// Whether its supervisor runs the program that it should, or was told to.
    pub(super) is_current: bool,
    /// Something has happened to it.
    pub(super) due: bool,
    /// Of the supervisor's handle, in what is waited on.
    pub(super) key: Option<usize>,
}

impl Kept {
    /// Whether only time can bring it on.
    pub(super) fn is_idle(&self) -> bool {
        self.supervisor.is_none() && self.remover.is_none()
    }

    /// Does what the folder asks for. Gives false once there is nothing to look after any more.
    pub(super) fn tend(&mut self, state_dir: &Path, ending: bool) -> bool {
        if self.remover.is_some() {
            return true;
        }
        let now = time::monotonic();
        // A folder comes with its spec, so one without is what is left of a removal.
        let unwanted = self.dir.join(spec::REMOVED).exists() || !self.dir.join(spec::CURRENT).exists();
        if let Some((_, handle, started)) = &self.supervisor
            && crate::sys::poll::is_ready(handle)
        {
            if !unwanted && now.saturating_sub(*started) < THROTTLE {
                self.not_before = *started + THROTTLE;
            }
            self.supervisor = None;
        }
        if !self.dir.exists() {
            return self.supervisor.is_some();
        }
        if self.supervisor.is_none() {
            // One that an earlier scanner started, or that a caller's scanner did while we began.
            self.supervisor =
                lock::holder_handle(&self.dir.join("lock")).map(|(pid, handle)| (pid, handle, Duration::ZERO));
        }
        if let (Some((pid, ..)), false) = (&self.supervisor, self.is_current) {
            self.is_current = self.tell_to_renew(*pid, state_dir);
        }
        match &self.supervisor {
            Some((_, handle, _)) if (unwanted || ending) && !self.told_to_end => {
                self.told_to_end = process::pidfd_kill(handle, libc::SIGTERM).is_ok();
                // One that somebody has stopped hears it only now.
                let _ = process::pidfd_kill(handle, libc::SIGCONT);
            }
            None if unwanted && now >= self.not_before => self.remove(),
            None if !unwanted && ending => return false,
            None if !unwanted && now >= self.not_before => self.start(state_dir, now),
            _ => {}
        }
        true
    }

    /// Has a supervisor of another program become this one. Whether it knows.
    fn tell_to_renew(&self, pid: Pid, state_dir: &Path) -> bool {
        if handover::wanted(state_dir).is_ok_and(|program| handover::runs(&pid.to_string(), &program)) {
            return true;
        }
        let mut request = serde_json::to_vec(&Request { v: VERSION, op: Op::Renew }).unwrap_or_default();
        request.push(b'\n');
        // It answers, which nobody waits for: whether it has done so shows in what it runs.
        socket::connect(&self.dir, CONTROL).is_ok_and(|mut stream| stream.write_all(&request).is_ok())
    }

    fn start(&mut self, state_dir: &Path, now: Duration) {
        self.told_to_end = false;
        // As anybody's that is found: it may have been started by the program before.
        self.is_current = false;
        let started = handover::wanted(state_dir).and_then(|program| {
            let child = Command::new(program)
                .arg("run")
                .args([state_dir, &self.dir])
                .env_clear()
                .stdin(Stdio::null())
                .spawn()?;
            Ok((child.id() as Pid, process::pidfd_open(child.id() as Pid)?, now))
        });
        match started {
            Ok(supervisor) => self.supervisor = Some(supervisor),
            Err(error) => {
                eprintln!("{}: cannot start a supervisor: {error}", self.dir.display());
                self.not_before = now + THROTTLE;
            }
        }
    }

    /// Removes the folder in a child. What says that it is unwanted, and whose files it holds, goes last: whoever is
    /// killed half-way, the next scanner goes on.
    fn remove(&mut self) {
        match process::fork() {
            Ok(Fork::Parent(pid)) => self.remover = Some(pid),
            Ok(Fork::Child) => {
                let result = remove_daemon(&self.dir);
                if let Err(error) = &result {
                    eprintln!("{}: cannot be removed: {error}", self.dir.display());
                }
                process::exit_now(i32::from(result.is_err()))
            }
            Err(error) => {
                eprintln!("{}: cannot be removed: {error}", self.dir.display());
                self.not_before = time::monotonic() + THROTTLE;
            }
        }
    }
}

fn remove_daemon(dir: &Path) -> io::Result<()> {
    limited::remove(dir);
    let ids = spec::read::<Document>(&dir.join(spec::CURRENT)).map_or(Ids::Identity, |spec| spec.run.sandbox.ids);
    // In this order: a spec without its mark would be a daemon that is wanted.
    let last = [spec::CURRENT, spec::REMOVED].map(|name| dir.join(name));
    ids::as_root_of(&ids, || {
        entries(dir).into_iter().filter(|entry| !last.contains(entry)).try_for_each(|entry| copy::tree(&entry))
    })?;
    last.iter().try_for_each(|file| copy::tree(file))?;
    copy::tree(dir)
}
