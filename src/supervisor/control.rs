//! The server's side of the control sockets: who is connected, what they ask, what they are told.

use super::protocol::{Op, Reply, Request, VERSION};
use crate::sandbox::Failure;
use crate::sys::poll::PollSet;
use crate::sys::socket;
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// More callers than this at once wait in the kernel's queue.
const MAX_CALLERS: usize = 64;
/// A request is one short line; who sends more is not one of ours.
const MAX_REQUEST: usize = 1024;

/// A listening socket and its callers.
pub struct Server {
    listener: UnixListener,
    callers: Vec<Caller>,
    last_id: u64,
    hung_up: bool,
}

/// A connection. `stream` is taken away when it is done with.
struct Caller {
    id: CallerId,
    stream: Option<UnixStream>,
    request: Vec<u8>,
    watches: bool,
    key: usize,
}

/// Which caller a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerId(u64);

impl Server {
    /// Listens on the socket `name` in `dir`.
    pub fn new(dir: &Path, name: &str) -> io::Result<Self> {
        Ok(Server { listener: socket::listen(dir, name)?, callers: Vec::new(), last_id: 0, hung_up: false })
    }

    /// Goes on with a socket that listens already. Callers who had been accepted call again.
    pub fn adopted(listener: OwnedFd) -> Self {
        Server { listener: listener.into(), callers: Vec::new(), last_id: 0, hung_up: false }
    }

    /// Adds what is to be waited on.
    pub fn add_to(&mut self, set: &mut PollSet) -> Option<usize> {
        // Those who have their answer take no place: with all places theirs, nobody would be heard any more.
        self.callers.retain(|caller| caller.stream.is_some());
        for caller in &mut self.callers {
            caller.key = caller.stream.as_ref().map_or(usize::MAX, |stream| set.add(stream));
        }
        (self.callers.len() < MAX_CALLERS).then(|| set.add(&self.listener))
    }

    /// Takes what has come since: whole requests, in order of their callers.
    pub fn requests(&mut self, set: &PollSet, accept: Option<usize>) -> Vec<(CallerId, Op)> {
        let mut requests = Vec::new();
        for caller in &mut self.callers {
            if caller.key != usize::MAX
                && set.ready(caller.key)
                && let Some(op) = caller.read()
            {
                requests.push((caller.id, op));
            }
        }
        if accept.is_some_and(|key| set.ready(key)) {
            while let Ok(stream) = socket::accept(&self.listener) {
                self.last_id += 1;
                let id = CallerId(self.last_id);
                let mut caller =
                    Caller { id, stream: Some(stream), request: Vec::new(), watches: false, key: usize::MAX };
                if let Some(op) = caller.read() {
                    requests.push((id, op));
                }
                self.callers.push(caller);
            }
        }
        // Those who came only to go are among them.
        self.hung_up |= self.callers.iter().any(|caller| caller.stream.is_none());
        requests
    }

    /// Whether somebody has gone without having asked, since this was asked last: killed over what they would have told.
    pub fn was_hung_up(&mut self) -> bool {
        std::mem::take(&mut self.hung_up)
    }

    /// Answers, if the caller is still there. It is done with unless it watches.
    pub fn reply(&mut self, id: CallerId, reply: &Reply, keep_watching: bool) {
        let Some(caller) = self.callers.iter_mut().find(|caller| caller.id == id) else { return };
        caller.send(reply);
        caller.watches = keep_watching;
        if !keep_watching {
            caller.stream = None;
        }
    }

    /// Tells everyone who watches.
    pub fn announce(&mut self, reply: impl FnOnce() -> Reply) {
        if self.callers.iter().any(|caller| caller.watches && caller.stream.is_some()) {
            let reply = reply();
            self.callers.iter_mut().filter(|caller| caller.watches).for_each(|caller| caller.send(&reply));
        }
    }
}

/// Why a request is not understood: whose turn it is to be upgraded.
fn mismatch(line: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Any {
        v: u32,
    }
    let (who, hint) = match serde_json::from_slice::<Any>(line) {
        Ok(Any { v }) if v < VERSION => (
            "a newer version of @alienplatform/core keeps this state directory",
            "upgrade @alienplatform/core here to the version that deployed last",
        ),
        _ => (
            "an older version of @alienplatform/core keeps this state directory, and does not know this call",
            "deploy again with the newer version; where that does not help, stop the scanner (SIGTERM) and deploy",
        ),
    };
    Failure::new("PROTOCOL_MISMATCH", who).hint(hint)
}

impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl Caller {
    fn read(&mut self) -> Option<Op> {
        let mut buffer = [0; MAX_REQUEST];
        let read = self.stream.as_mut()?.read(&mut buffer);
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(size) if size > 0 && self.request.len() + size <= MAX_REQUEST => {
                self.request.extend_from_slice(&buffer[..size]);
            }
            _ => {
                self.stream = None;
                return None;
            }
        }
        let end = self.request.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.request.drain(..=end).collect();
        match serde_json::from_slice::<Request>(&line) {
            Ok(Request { v: VERSION, op }) => Some(op),
            _ => {
                self.send(&Reply::Refused(mismatch(&line)));
                self.stream = None;
                None
            }
        }
    }

    /// A caller that does not read what it asked for is let go: nobody may make a supervisor wait.
    fn send(&mut self, reply: &Reply) {
        let mut line = serde_json::to_vec(reply).unwrap_or_default();
        line.push(b'\n');
        if self.stream.as_mut().is_some_and(|stream| stream.write_all(&line).is_err()) {
            self.stream = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::protocol::CONTROL;
    use std::fs;

    /// One turn of a loop that waits for this server alone.
    fn turn(server: &mut Server) -> Vec<Op> {
        let mut set = PollSet::default();
        let accept = server.add_to(&mut set);
        set.wait(None).expect("wait");
        server.requests(&set, accept).into_iter().map(|(_, op)| op).collect()
    }

    #[test]
    fn who_goes_without_a_word_is_noticed_whether_before_or_after_being_accepted() {
        let dir = std::env::temp_dir().join(format!("alien-control-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("make a folder");
        let mut server = Server::new(&dir, CONTROL).expect("listen");
        let connect = || socket::connect(&dir, CONTROL).expect("connect");

        drop(connect());
        assert!(turn(&mut server).is_empty());
        assert!(server.was_hung_up(), "gone before it was accepted");

        let caller = connect();
        assert!(turn(&mut server).is_empty());
        assert!(!server.was_hung_up(), "still there");
        drop(caller);
        assert!(turn(&mut server).is_empty());
        assert!(server.was_hung_up(), "gone after it was accepted");

        let mut caller = connect();
        caller.write_all(b"{\"v\":1,\"op\":\"scan\"}\n").expect("ask");
        drop(caller);
        assert_eq!(turn(&mut server), [Op::Scan]);
        assert!(!server.was_hung_up(), "it said what it wanted");
        fs::remove_dir_all(&dir).expect("remove the folder");
    }
}
