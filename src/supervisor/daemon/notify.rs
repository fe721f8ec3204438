//! sd_notify(3): a daemon that says when it is up.

use super::{Stage, Supervisor};
use crate::sys::process::{self, Pid};
use crate::sys::socket;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

impl Supervisor {
    /// sd_notify(3): `READY=1` from a process of the daemon says that it is up.
    pub(super) fn notified(&mut self) {
        let mut buffer = [0; 1024];
        while let socket::Received::Message(size, sender) = socket::receive(&self.notify, &mut buffer) {
            let program = self.child.as_ref().and_then(|child| child.program);
            let ready = buffer[..size].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
            let starting = matches!(self.stage, Stage::Up { settled: false, .. });
            if ready && starting && same_pid_namespace(sender, program) {
                self.settle();
            }
        }
    }

    /// `NOTIFY_SOCKET` for the daemon's environment.
    pub(super) fn notify_variable(&self) -> Option<String> {
        let address = self.notify.local_addr().ok()?;
        Some(format!("NOTIFY_SOCKET=@{}", String::from_utf8_lossy(address.as_abstract_name()?)))
    }
}

/// A datagram socket with an abstract name, which needs no path inside: the daemon shares the host's network. Who may
/// speak on it is decided by [`same_pid_namespace`], not by who knows the name.
pub fn listen() -> io::Result<UnixDatagram> {
    let address = SocketAddr::from_abstract_name(format!("alien-notify-{}", process::random_name()?))?;
    let socket = UnixDatagram::bind_addr(&address)?;
    socket.set_nonblocking(true)?;
    socket::ask_for_sender(&socket)?;
    Ok(socket)
}

fn same_pid_namespace(sender: Option<Pid>, program: Option<Pid>) -> bool {
    let of = |pid: Option<Pid>| fs::read_link(format!("/proc/{}/ns/pid", pid?)).ok();
    sender.is_some() && (sender == program || of(sender).is_some_and(|namespace| Some(namespace) == of(program)))
}
