//! A daemon's processes as its supervisor has them: an init in the daemon's sandbox, and the program that it runs.

use super::init::{self, Start};
use super::inside::{fail, number, tag};
use super::spec::Spec;
use crate::sandbox::cgroup::Group;
use crate::sandbox::{Failure, Namespaces, Program};
use crate::sys::memory::Stack;
use crate::sys::process::{self, Exit, Fork, Pid};
use crate::sys::{Context, socket};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// An init that stays, and runs one version's program as often as it is told to. It ends with this value at the latest.
pub struct Child {
    /// The version that it runs.
    pub version: String,
    /// Pid 1 of the daemon's pid namespace, as seen from here; our child.
    pub init: Pid,
    /// Whether the init has all it needs, and was not told to start its program yet.
    pub ready: bool,
    /// Whether the program was started and has not been seen to end.
    pub running: bool,
    /// The program, as seen from here.
    pub program: Option<Pid>,
    /// How the program ended: see [`Child::take_exit`].
    pub exit: Option<Exit>,
    /// Why the program could not be started.
    pub failure: Option<Failure>,
    /// Readable when the inside has something to say: see [`Child::hear`].
    pub socket: OwnedFd,
    /// The read ends of the program's outputs.
    pub outputs: [OwnedFd; 2],
    /// Whether the init has been waited for, or somebody else does that.
    pub reaped: bool,
}

/// Makes the init that is to run the program of `spec`.
pub fn launch(namespaces: &Namespaces, spec: &Spec, program: &Program, group: Option<&Group>) -> io::Result<Child> {
    let (ours, theirs) = socket::message_pair()?;
    socket::ask_for_sender(&ours)?;
    let (stdout, stdout_end) = socket::pipe()?;
    let (stderr, stderr_end) = socket::pipe()?;
    match group.map_or_else(process::fork, Group::fork)? {
        Fork::Child => {
            drop((ours, stdout, stderr));
            let start = Start { program, ids: &spec.sandbox.ids, group };
            let joined = group.map_or(Ok(()), Group::join);
            let result = joined.and_then(|()| enter_and_clone(namespaces, &start, &theirs, [&stdout_end, &stderr_end]));
            if let Err(error) = result {
                fail(&theirs, &Failure::from(error));
            }
            process::exit_now(0)
        }
        Fork::Parent(_) => {
            drop((theirs, stdout_end, stderr_end));
            let mut child = Child {
                version: spec.version.clone(),
                init: 0,
                ready: false,
                running: false,
                program: None,
                exit: None,
                failure: None,
                socket: ours,
                outputs: [stdout, stderr],
                reaped: false,
            };
            while child.init == 0 && child.listen(socket::receive_wait) {}
            if child.init > 0 {
                return Ok(child);
            }
            let why = child.failure.take().map(|failure| failure.message);
            Err(io::Error::other(why.unwrap_or_else(|| "the process that starts the daemon ended early".to_owned())))
        }
    }
}

/// In a short-lived process between supervisor and init: only a process that is already inside may clone the init, and
/// `CLONE_PARENT` makes that the supervisor's child all the same, so that it dies and is reaped with it.
fn enter_and_clone(
    namespaces: &Namespaces,
    start: &Start<'_>,
    socket: &OwnedFd,
    outputs: [&OwnedFd; 2],
) -> io::Result<()> {
    namespaces.enter().context(|| "enter the sandbox".to_owned())?;
    let null = File::options().read(true).write(true).open("/dev/null").context(|| "open /dev/null".to_owned())?;
    let mut stack = Stack::new(init::STACK)?;
    let lowest = stack.lowest();
    let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT;
    let pid = process::clone_onto(&mut stack, flags, || init::run(start, socket, &null, outputs, lowest));
    let pid = pid.context(|| "make a pid namespace".to_owned())?;
    let mut message = vec![tag::INIT];
    message.extend_from_slice(pid.to_string().as_bytes());
    socket::send(socket, &message)
}

impl Child {
    /// Has the init start its program. It runs, or its failure is known, soon after.
    pub fn start(&mut self) {
        (self.running, self.ready) = (true, false);
        // An init that has gone is one whose end is about to be seen.
        let _ = socket::send(&self.socket, &[tag::START]);
    }

    /// Takes everything that the inside has said so far.
    pub fn hear(&mut self) {
        while self.listen(socket::receive) {}
    }

    fn listen(&mut self, receive: fn(&OwnedFd, &mut [u8]) -> socket::Received) -> bool {
        let mut buffer = [0; 4096];
        let socket::Received::Message(size, sender) = receive(&self.socket, &mut buffer) else { return false };
        let (tag, body) = (buffer[0], &buffer[1.min(size)..size]);
        match tag {
            tag::INIT => self.init = number(body).unwrap_or(0),
            tag::READY => self.ready = !self.running,
            tag::PROGRAM => self.program = sender,
            tag::ENDED => self.exit = number(body).map(Exit::from_wait_status),
            tag::FAILED => {
                let odd = |_| Failure::new("EXEC_FAILED", "the program could not be started");
                self.failure = Some(serde_json::from_slice(body).unwrap_or_else(odd));
            }
            _ => {}
        }
        true
    }

    /// How the program has ended: once, and from then on there is none.
    pub fn take_exit(&mut self) -> Option<Exit> {
        let exit = self.exit.take()?;
        (self.running, self.program) = (false, None);
        Some(exit)
    }

    /// Has the init send its program a signal.
    pub fn signal(&self, signal: i32) {
        let _ = socket::send(&self.socket, format!("{}{signal}", char::from(tag::SIGNAL)).as_bytes());
    }

    /// Ends the pid namespace and all in it.
    pub fn kill(&self) {
        if !self.reaped {
            let _ = process::kill(self.init, libc::SIGKILL);
        }
    }

    /// The same, without waiting for its end: whoever reaps any child does that.
    pub fn leave(mut self) {
        self.kill();
        self.reaped = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.init > 0 && !self.reaped {
            self.kill();
            let _ = process::wait(self.init);
        }
    }
}
