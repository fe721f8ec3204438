//! Pid 1 inside: a process that the daemon's program can be an ordinary child of.
//!
//! As `docker run --init` does it: zombies are reaped, signals are passed on, and because the program is not pid 1
//! itself, one without a handler for its stop signal ends by it. When the program ends so does the init, and the
//! kernel then ends whatever else is left in the pid namespace.

use super::inside::{fail, tag};
use crate::sandbox::cgroup::{self, Group};
use crate::sandbox::ids::Ids;
use crate::sandbox::{Failure, Program, exec, proc};
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{Context, signal, socket};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the socket to the supervisor is from here on.
const SOCKET: i32 = 3;

/// What an init is to start.
pub struct Start<'a> {
    pub program: &'a Program,
    pub ids: &'a Ids,
    /// The group that it is in already.
    pub group: Option<&'a Group>,
}

/// Runs the init; starts the program as its child. Never returns.
pub fn run(wanted: &Start<'_>, socket: &OwnedFd, null: &File, outputs: [&OwnedFd; 2]) -> ! {
    match set_up(wanted, socket, null, outputs).map_err(Failure::from).and_then(|()| start(wanted)) {
        Ok(program) => keep(program),
        Err(failure) => {
            say(&failure);
            process::exit_now(127)
        }
    }
}

fn set_up(wanted: &Start<'_>, socket: &OwnedFd, null: &File, outputs: [&OwnedFd; 2]) -> io::Result<()> {
    // Nobody inside may take hold of our executable, which is the host's, by way of /proc/1 (CVE-2019-5736).
    process::not_dumpable()?;
    process::die_with_parent(libc::SIGKILL)?;
    // The supervisor may have ended before that took effect; then its end of the socket is closed.
    if let socket::Received::Closed = socket::receive(socket, &mut [0; 1]) {
        process::exit_now(0);
    }
    process::dup_to(null, 0)?;
    process::dup_to(outputs[0], 1)?;
    process::dup_to(outputs[1], 2)?;
    process::dup_to(socket, SOCKET)?;
    process::close_from(SOCKET + 1);
    crate::sys::check(unsafe { libc::fcntl(SOCKET, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    signal::block_all();
    proc::renew().context(|| "give the daemon a /proc".to_owned())?;
    cgroup::renew(wanted.group).context(|| "show the daemon its control group".to_owned())
}

fn start(wanted: &Start<'_>) -> Result<Pid, Failure> {
    match process::fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            unsafe { libc::setsid() };
            let failure = match exec::prepare(wanted.program, wanted.ids) {
                Ok(ready) => {
                    let _ = socket::send(&Descriptor(SOCKET), &[tag::PROGRAM]);
                    ready.run()
                }
                Err(failure) => failure,
            };
            say(&failure);
            process::exit_now(127)
        }
    }
}

/// Reaps and passes signals on until the program has ended.
fn keep(program: Pid) -> ! {
    loop {
        let signal = signal::wait_any();
        if signal != libc::SIGCHLD {
            let _ = process::kill(program, signal);
            continue;
        }
        while let Some((pid, status)) = process::reap_any() {
            if pid == program {
                let mut message = vec![tag::ENDED];
                message.extend_from_slice(status.to_string().as_bytes());
                let _ = socket::send(&Descriptor(SOCKET), &message);
                process::exit_now(0)
            }
        }
    }
}

fn say(failure: &Failure) {
    fail(&Descriptor(SOCKET), failure);
}

/// A descriptor by its number, which stays open for this process's life.
struct Descriptor(i32);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}
