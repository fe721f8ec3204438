//! What the processes inside a sandbox say to their supervisor: messages of a tag and a body.

use crate::sandbox::Failure;
use crate::sys::socket;
use std::os::fd::AsRawFd;

/// The first byte of each message from the inside.
pub mod tag {
    /// The init's pid follows, as text: sent by the process that cloned it.
    pub const INIT: u8 = b'I';
    /// The sender is about to become the program.
    pub const PROGRAM: u8 = b'P';
    /// A `Failure` follows, as JSON.
    pub const FAILED: u8 = b'F';
    /// The program's wait status follows, as text.
    pub const ENDED: u8 = b'E';
}

/// Says from the inside why there will be no program.
pub fn fail(socket: &impl AsRawFd, failure: &Failure) {
    let mut message = vec![tag::FAILED];
    message.extend_from_slice(&serde_json::to_vec(failure).unwrap_or_default());
    let _ = socket::send(socket, &message);
}
