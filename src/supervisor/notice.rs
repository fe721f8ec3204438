//! Telling a service on this machine that a daemon's program has ended: what it had taken can be given to the next one.

use super::spec::EndNotice;
use crate::sys::process::{self, Fork};
use crate::sys::time;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Who does not listen by then is told nothing: it finds out by itself, later.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a program may take to be gone whose supervisor was killed: the kernel kills it then, but nobody waits for that.
pub const UNSEEN: Duration = Duration::from_millis(500);

/// Tells it, after a while, that a program has ended by now; in a child, since a supervisor waits for nobody.
pub fn tell(notice: &EndNotice, after: Duration) {
    let at = time::rfc3339(time::wall());
    if matches!(process::fork(), Ok(Fork::Child)) {
        // It holds the supervisor's lock as long as it lives.
        let _ = process::die_with_parent(libc::SIGKILL);
        std::thread::sleep(after);
        if let Err(error) = send(notice, &at) {
            eprintln!("{} could not be told of a daemon's end: {error}", notice.address);
        }
        process::exit_now(0)
    }
}

fn send(notice: &EndNotice, at: &str) -> io::Result<()> {
    let token = fs::read_to_string(&notice.token_file)?;
    let mut stream = TcpStream::connect_timeout(&notice.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST {}?at={at} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        notice.path,
        notice.address,
        token.trim()
    );
    stream.write_all(request.as_bytes())?;
    // What is answered does not matter, but a connection that ends before it is may take the request with it.
    stream.read(&mut [0; 512]).map(drop)
}
