//! How a child that works on a sandbox tells its parent what came of it.

use super::Failure;
use crate::sys::socket;
use std::os::fd::OwnedFd;

/// What a child reports: `null`, or what went wrong.
pub fn tell(socket: &OwnedFd, result: Result<(), Failure>) {
    let _ = socket::send(socket, &serde_json::to_vec(&result.err()).unwrap_or_default());
}

pub fn verdict(socket: &OwnedFd) -> Result<(), Failure> {
    let odd = |why: &str| {
        Failure::new("SANDBOX_FAILED", format!("the process that made the sandbox {why}"))
            .hint("it may have been killed for want of memory; see the kernel's log")
    };
    let mut buffer = [0; 4096];
    match socket::receive_wait(socket, &mut buffer) {
        socket::Received::Message(size, _) => match serde_json::from_slice::<Option<Failure>>(&buffer[..size]) {
            Ok(failure) => failure.map_or(Ok(()), Err),
            Err(_) => Err(odd("said something that cannot be read")),
        },
        _ => Err(odd("ended early")),
    }
}
