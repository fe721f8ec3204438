//! A program beside the daemon's, in its sandbox: the same root, namespaces, user, rights, limits and environment.
//!
//! This process stays outside the pid namespace, as the program's parent, and passes on how it ended. Who asked may have
//! gone by then: the program goes on, and ends with its daemon at the latest.

use super::lock;
use super::spec::{self, CURRENT, Document};
use super::terminal::Terminal;
use crate::sandbox::cgroup::Group;
use crate::sandbox::exec::{give_up_rights, prepare};
use crate::sandbox::{Failure, Namespaces, Program};
use crate::sys::process::{self, Exit, Fork, Pid};
use crate::sys::{self, signal, socket};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// The descriptor on which the end is told.
pub const REPORT: i32 = 3;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Code(i32),
    /// By name: `SIGKILL`.
    Signal(String),
    /// It could not be started.
    Failed(Failure),
}

/// Runs `command` beside the daemon in `dir` whose program is `pid`, with this process's streams, or on a new terminal.
///
/// # Errors
/// Only where not even that can be told.
pub fn run(dir: &Path, pid: Pid, terminal: bool, command: Vec<String>) -> io::Result<()> {
    // SAFETY: whoever started us has put it there for us.
    let report = unsafe { OwnedFd::from_raw_fd(REPORT) };
    sys::check(unsafe { libc::fcntl(REPORT, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    let outcome = match attempt(dir, pid, terminal, command, &report) {
        Ok(Exit::Code(code)) => Outcome::Code(code),
        Ok(Exit::Signal(number)) => Outcome::Signal(signal::name(number)),
        Err(failure) => Outcome::Failed(failure),
    };
    let _ = socket::send(&report, &serde_json::to_vec(&outcome)?);
    Ok(())
}

fn attempt(dir: &Path, pid: Pid, terminal: bool, command: Vec<String>, report: &OwnedFd) -> Result<Exit, Failure> {
    // Nobody inside may take hold of our executable, which is the host's, by way of /proc (CVE-2019-5736).
    process::not_dumpable()?;
    let namespaces = Namespaces::of(pid).map_err(|_| not_running())?;
    let handle = process::pidfd_open(pid).map_err(|_| not_running())?;
    if !is_of(dir, pid) || sys::poll::is_ready(&handle) {
        return Err(not_running());
    }
    let spec = spec::read::<Document>(&dir.join(CURRENT))?.run;
    if let Ok(group) = spec::read::<Group>(&dir.join(spec::CGROUP)) {
        group.enter()?;
    }
    namespaces.enter_beside(pid)?;
    let mut env = spec.program.env;
    let terminal = terminal.then(Terminal::open).transpose()?;
    if terminal.is_some() && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let program = Program { argv: command, env, ..spec.program };
    let (ours, theirs) = socket::message_pair()?;
    match process::fork()? {
        Fork::Child => {
            drop(ours);
            unsafe { libc::setsid() };
            let ours = terminal.map_or(Ok(()), |terminal| terminal.become_ours()).and_then(|()| give_up_rights());
            let failure = match ours {
                Err(error) => error.into(),
                Ok(()) => match prepare(&program, &spec.sandbox.ids) {
                    Ok(ready) => ready.run(),
                    Err(failure) => failure,
                },
            };
            let _ = socket::send(&theirs, &serde_json::to_vec(&failure).unwrap_or_default());
            process::exit_now(127)
        }
        Fork::Parent(child) => {
            drop(theirs);
            if let Some(terminal) = terminal {
                terminal.relay(child, report)?;
            }
            let exit = process::wait(child)?;
            let mut buffer = [0; 4096];
            match socket::receive(&ours, &mut buffer) {
                socket::Received::Message(size, _) => Err(serde_json::from_slice(&buffer[..size])
                    .unwrap_or_else(|_| Failure::new("EXEC_FAILED", "the program could not be started"))),
                _ => Ok(exit),
            }
        }
    }
}

fn not_running() -> Failure {
    Failure::new("DAEMON_NOT_RUNNING", "the daemon's program has ended meanwhile").hint("`alien status` says how it is")
}

/// Whether a process is the daemon's program: a child of an init that is a child of its supervisor, which holds its lock.
fn is_of(dir: &Path, pid: Pid) -> bool {
    let parent = |pid: Pid| -> Option<Pid> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    };
    let supervisor = parent(pid).and_then(parent);
    supervisor.is_some() && supervisor == lock::holder(&dir.join("lock"))
}
