//! Pid 1 inside: a process that the daemon's program can be an ordinary child of.
//!
//! As `docker run --init` does it: zombies are reaped, signals are passed on, and because the program is not pid 1
//! itself, one without a handler for its stop signal ends by it. When the program ends, all else in the pid namespace is
//! ended too, as if the namespace went with it; but init and namespace stay for the next run. What they cost to make,
//! the mounts above all, is so paid ahead: a restart is a fork and an execve(2).

use super::inside::{fail, number, tag};
use crate::sandbox::cgroup::{self, Group};
use crate::sandbox::ids::Ids;
use crate::sandbox::{Failure, Program, exec, proc};
use crate::sys::poll::PollSet;
use crate::sys::process::{self, Pid};
use crate::sys::{Context, heap, memory, signal, socket};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the socket to the supervisor is from here on.
const SOCKET: i32 = 3;

/// Bytes of its stack.
pub const STACK: usize = 512 * 1024;

/// The wait status of a shell's child that could not be executed: code 127.
const NOT_STARTED: i32 = 127 << 8;

/// What an init is to start.
pub struct Start<'a> {
    pub program: &'a Program,
    pub ids: &'a Ids,
    /// The group that it is in already.
    pub group: Option<&'a Group>,
}

/// Runs the init, on a stack of its own that ends at `lowest`; starts the program as its child whenever the supervisor says
/// so. Never returns.
pub fn run(wanted: &Start<'_>, socket: &OwnedFd, null: &File, outputs: [&OwnedFd; 2], lowest: usize) -> ! {
    let kept = set_up(wanted, socket, null, outputs).and_then(|signals| {
        // It stays, and of its supervisor's memory needs these alone.
        heap::begin_anew()?;
        let (program, ids) = (wanted.program.clone(), wanted.ids.clone());
        // SAFETY: the rest is with those who called, to whom this process never returns.
        unsafe { heap::leave_behind()? };
        keep(&program, &ids, &signals, lowest)
    });
    let Err(error) = kept;
    say(&error.into());
    process::exit_now(127)
}

/// Makes this process an init, and gives where its signals are read.
fn set_up(wanted: &Start<'_>, socket: &OwnedFd, null: &File, outputs: [&OwnedFd; 2]) -> io::Result<OwnedFd> {
    // What it does to all that it sees, it must never do to the host.
    if std::process::id() != 1 {
        return Err(io::Error::other("the init is not the first process of a pid namespace"));
    }
    // Nobody inside may take hold of our executable, which is the host's, by way of /proc/1 (CVE-2019-5736).
    process::not_dumpable()?;
    process::die_with_parent(libc::SIGKILL)?;
    process::dup_to(null, 0)?;
    process::dup_to(outputs[0], 1)?;
    process::dup_to(outputs[1], 2)?;
    process::dup_to(socket, SOCKET)?;
    process::close_from(SOCKET + 1);
    crate::sys::check(unsafe { libc::fcntl(SOCKET, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // The sandbox may have another init, of the version before this one, with its own /proc.
    process::unshare(libc::CLONE_NEWNS).context(|| "make a mount namespace".to_owned())?;
    proc::renew().context(|| "give the daemon a /proc".to_owned())?;
    cgroup::renew(wanted.group).context(|| "show the daemon its control group".to_owned())?;
    let signals = signal::descriptor(&signal::all())?;
    exec::give_up_rights().map(|()| signals)
}

/// Starts the program when told to, reaps, and passes signals on.
fn keep(wanted: &Program, ids: &Ids, signals: &OwnedFd, lowest: usize) -> io::Result<Infallible> {
    let socket = Descriptor(SOCKET);
    let mut program = None;
    let mut set = PollSet::default();
    let (_, signalled) = (set.add(&socket), set.add(signals));
    let needed = heap::mark();
    socket::send(&socket, &[tag::READY])?;
    loop {
        set.wait(None)?;
        loop {
            let mut message = [0; 16];
            match socket::receive(&socket, &mut message) {
                socket::Received::Message(size, _) => match (message[0], program) {
                    (tag::START, None) => {
                        program = start(wanted, ids);
                        if program.is_none() {
                            tell_end(NOT_STARTED)?;
                        }
                        // The next thing that happens may be months away.
                        memory::release_code();
                        // SAFETY: of what was allocated since, nothing is left, and below is nothing but this stack.
                        unsafe {
                            heap::forget_since(needed);
                            memory::release_stack(lowest);
                        }
                    }
                    (tag::SIGNAL, Some(program)) => {
                        if let Some(signal) = number(&message[1..size]) {
                            let _ = process::kill(program, signal);
                        }
                    }
                    // Meant for a program that has ended meanwhile.
                    _ => {}
                },
                socket::Received::Empty => break,
                // The supervisor has ended, perhaps before this process could ask to end with it.
                socket::Received::Closed => process::exit_now(0),
            }
        }
        if !set.ready(signalled) {
            continue;
        }
        while let Some(signal) = signal::next(signals) {
            match program {
                Some(program) if signal != libc::SIGCHLD => drop(process::kill(program, signal)),
                _ => {}
            }
        }
        if let Some(status) = reap(program) {
            program = None;
            end_all();
            tell_end(status)?;
        }
    }
}

fn tell_end(status: i32) -> io::Result<()> {
    socket::send(&Descriptor(SOCKET), format!("{}{status}", char::from(tag::ENDED)).as_bytes())
}

/// Reaps whoever has ended; the program's wait status, if it was among them.
fn reap(program: Option<Pid>) -> Option<i32> {
    let mut ended = None;
    while let Some((pid, status)) = process::reap_any() {
        ended = ended.or((Some(pid) == program).then_some(status));
    }
    ended
}

/// Ends what the program has left in the pid namespace, and waits for that: whose parent ends becomes a child of the init.
fn end_all() {
    const ALL_OTHERS: Pid = -1;
    let _ = process::kill(ALL_OTHERS, libc::SIGKILL);
    while process::wait(ALL_OTHERS).is_ok() {}
}

/// Starts the program; says why where that cannot even be tried.
fn start(wanted: &Program, ids: &Ids) -> Option<Pid> {
    let started = exec::prepare(wanted, ids).and_then(|ready| {
        let pid = process::spawn(|| {
            unsafe { libc::setsid() };
            let _ = socket::send(&Descriptor(SOCKET), &[tag::PROGRAM]);
            say(&ready.run());
            127
        })?;
        // Becoming another user may have changed this, as it may for any process with that memory (prctl(2)).
        process::not_dumpable()?;
        Ok(pid)
    });
    started.map_err(|failure| say(&failure)).ok()
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
