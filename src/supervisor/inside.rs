//! What the processes inside a sandbox and their supervisor say to each other: messages of a tag and a body.

use crate::sandbox::Failure;
use crate::sys::socket;
use std::os::fd::AsRawFd;

/// The first byte of each message.
pub mod tag {
    /// To the init: start the program. All that an earlier one left has ended when this is said.
    pub const START: u8 = b'S';
    /// To the init: send the program a signal, whose number follows, as text. In the order of starts and ends: one that is
    /// meant for a program that has just ended does not reach the next.
    pub const SIGNAL: u8 = b'K';
    /// The init's pid follows, as text: sent by the process that cloned it.
    pub const INIT: u8 = b'I';
    /// The init has made everything that a program needs.
    pub const READY: u8 = b'R';
    /// The sender is about to become the program.
    pub const PROGRAM: u8 = b'P';
    /// A `Failure` follows, as JSON.
    pub const FAILED: u8 = b'F';
    /// The program has ended, and all that it had started; its wait status follows, as text.
    pub const ENDED: u8 = b'E';
}

/// The number that a message holds.
pub fn number(body: &[u8]) -> Option<i32> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

/// Says from the inside why there will be no program.
pub fn fail(socket: &impl AsRawFd, failure: &Failure) {
    let mut message = vec![tag::FAILED];
    message.extend_from_slice(&serde_json::to_vec(failure).unwrap_or_default());
    let _ = socket::send(socket, &message);
}
