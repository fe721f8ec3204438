//! The callers' side of the control sockets.
//!
//! Nobody waits for a supervisor or scanner that is stopped (SIGSTOP): the kernel says so at once. For one that is stuck
//! otherwise there is a bound that an overloaded machine keeps. Who wants something changed ends either of them, by the
//! handle of the process that was asked and holds the lock, and asks the next one.

use crate::error::Report;
use crate::sandbox::Failure;
use crate::supervisor::protocol::{CONTROL, Op, Reply, Request, SCANNER, Status, VERSION};
use crate::supervisor::{lock, scanner};
use crate::sys::process::{self, Pid};
use crate::sys::{poll, socket, time};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A supervisor answers within milliseconds; one that takes this long is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of silence, before the first look whether the other side is stopped; the next ones are farther apart.
const SILENCE: Duration = Duration::from_millis(50);
const LONGEST_SILENCE: Duration = Duration::from_millis(400);
/// Between two looks for something that nobody tells us of.
const LOOK: Duration = Duration::from_millis(1);

/// The code of the error about one that does not answer.
pub const UNRESPONSIVE: &str = "SUPERVISOR_UNRESPONSIVE";

/// A conversation with a supervisor or scanner.
pub struct Conversation {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    peer: Peer,
}

/// Who is spoken with.
struct Peer {
    /// What it holds as long as it lives.
    lock: PathBuf,
    /// Who listens, where that is known.
    pid: Option<Pid>,
    what: &'static str,
}

impl Peer {
    fn new(dir: &Path, name: &str) -> Peer {
        let (lock, what) = if name == SCANNER { (scanner::LOCK, "scanner") } else { ("lock", "supervisor") };
        Peer { lock: dir.join(lock), pid: None, what }
    }

    /// Its handle, where it is still there.
    fn handle(&self) -> Option<OwnedFd> {
        let (pid, handle) = lock::holder_handle(&self.lock)?;
        (self.pid.is_none() || self.pid == Some(pid)).then_some(handle)
    }

    fn is_stopped(&self) -> bool {
        let holder = lock::holder(&self.lock);
        holder.is_some_and(|pid| (self.pid.is_none() || self.pid == Some(pid)) && process::is_stopped(pid))
    }

    fn stopped(&self) -> Report {
        Report::new(UNRESPONSIVE, format!("the {} is stopped (SIGSTOP)", self.what))
            .hint("deploy again to replace it, or let it go on (SIGCONT)")
    }

    fn stuck(&self) -> Report {
        let message = format!("the {} has not answered for {} s", self.what, PATIENCE.as_secs());
        Report::new(UNRESPONSIVE, message).hint("the machine may be overloaded; deploy again to replace it")
    }

    /// Ends it, and returns once it is gone.
    async fn end(&self) {
        let Some(handle) = self.handle() else { return };
        let until = time::monotonic() + PATIENCE;
        let _ = process::pidfd_kill(&handle, libc::SIGKILL);
        while !poll::is_ready(&handle) && time::monotonic() < until {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Conversation {
    /// Connects to the socket `name` in `dir` and says what is wanted.
    ///
    /// # Errors
    /// `SUPERVISOR_DOWN` where nobody listens, `SUPERVISOR_UNRESPONSIVE` where nobody is accepted any more.
    pub async fn begin(dir: &Path, name: &str, op: Op) -> Result<Self, Report> {
        let mut conversation = Self::connect(dir, name).await?;
        conversation.say(op).await?;
        Ok(conversation)
    }

    /// Connects alone.
    pub async fn connect(dir: &Path, name: &str) -> Result<Self, Report> {
        let down = |error: io::Error| {
            Report::new("SUPERVISOR_DOWN", format!("nobody listens on {}: {error}", dir.join(name).display()))
        };
        let mut peer = Peer::new(dir, name);
        let until = time::monotonic() + PATIENCE;
        let stream = loop {
            match socket::connect(dir, name) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(down(error)),
                Err(_) if peer.is_stopped() => return Err(peer.stopped()),
                Err(_) if time::monotonic() > until => return Err(peer.stuck()),
                Err(_) => tokio::time::sleep(SILENCE).await,
                Ok(stream) => break stream,
            }
        };
        peer.pid = socket::listener_of(&stream);
        let stream = BufReader::new(UnixStream::from_std(stream).map_err(down)?);
        Ok(Conversation { stream, line: Vec::new(), peer })
    }

    /// Says what is wanted.
    pub async fn say(&mut self, op: Op) -> Result<(), Report> {
        let mut request = serde_json::to_vec(&Request { v: VERSION, op }).unwrap_or_default();
        request.push(b'\n');
        let said = self.stream.write_all(&request).await;
        said.map_err(|error| Report::new("SUPERVISOR_DOWN", format!("the {} hung up: {error}", self.peer.what)))
    }

    /// The next reply, however long it takes.
    ///
    /// # Errors
    /// `SUPERVISOR_DOWN` where the other side has gone, `SUPERVISOR_UNRESPONSIVE` where it is stopped.
    pub async fn next(&mut self) -> Result<Reply, Report> {
        self.line.clear();
        let gone = |why: String| Report::new("SUPERVISOR_DOWN", format!("the supervisor hung up{why}"));
        let mut silence = SILENCE;
        loop {
            // What has come of a line before the time was over stays in it.
            let Ok(read) = timeout(silence, self.stream.read_until(b'\n', &mut self.line)).await else {
                silence = LONGEST_SILENCE.min(silence * 2);
                if self.peer.is_stopped() {
                    return Err(self.peer.stopped());
                }
                continue;
            };
            return match read {
                Ok(_) if self.line.last() != Some(&b'\n') => Err(gone(String::new())),
                Ok(_) => serde_json::from_slice(&self.line)
                    .map_err(|error| gone(format!(" after words that are none of ours: {error}"))),
                Err(error) => Err(gone(format!(": {error}"))),
            };
        }
    }

    /// The next reply, which is due at once.
    ///
    /// # Errors
    /// Those of [`Conversation::next`]; `SUPERVISOR_UNRESPONSIVE` also where it does not come within 5 s.
    pub async fn next_soon(&mut self) -> Result<Reply, Report> {
        timeout(PATIENCE, self.next()).await.unwrap_or_else(|_| Err(self.peer.stuck()))
    }

    /// Ends (-9) who does not answer, and returns once it is gone.
    pub async fn end_peer(&self) {
        self.peer.end().await;
    }
}

/// One call with one reply.
pub async fn call(dir: &Path, name: &str, op: Op) -> Result<Reply, Report> {
    Conversation::begin(dir, name, op).await?.next_soon().await
}

/// The same, and the end (-9) of whoever does not answer. The error is the same.
pub async fn call_or_end(dir: &Path, name: &str, op: Op) -> Result<Reply, Report> {
    let mut conversation = match Conversation::begin(dir, name, op).await {
        Ok(conversation) => conversation,
        Err(error) => {
            if error.code == UNRESPONSIVE {
                Peer::new(dir, name).end().await;
            }
            return Err(error);
        }
    };
    let reply = conversation.next_soon().await;
    if reply.as_ref().is_err_and(|error| error.code == UNRESPONSIVE) {
        conversation.end_peer().await;
    }
    reply
}

/// How a daemon is.
pub async fn status(dir: &Path) -> Result<Status, Report> {
    match call(dir, CONTROL, Op::Status).await? {
        Reply::Status(status) => Ok(*status),
        Reply::Refused(failure) => Err(failure.into()),
        Reply::Accepted => Err(Report::new("INTERNAL", "the supervisor answered a question with yes")),
    }
}

/// What the inside says is what the user reads.
impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        let report = Report::new(&failure.code, failure.message);
        match failure.hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }
}
