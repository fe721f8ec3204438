//! The callers' side of the control sockets.

use crate::error::Report;
use crate::sandbox::Failure;
use crate::supervisor::protocol::{CONTROL, Op, Reply, Request, Status, VERSION};
use crate::sys::socket;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A supervisor answers within milliseconds; one that takes this long is stopped or stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// A conversation with a supervisor or scanner.
pub struct Conversation {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Conversation {
    /// Connects to the socket `name` in `dir` and says what is wanted.
    ///
    /// # Errors
    /// `SUPERVISOR_DOWN` where nobody listens.
    pub async fn begin(dir: &Path, name: &str, op: Op) -> Result<Self, Report> {
        let down = |error: std::io::Error| {
            Report::new("SUPERVISOR_DOWN", format!("nobody listens on {}: {error}", dir.join(name).display()))
        };
        let stream = socket::connect(dir, name).map_err(down)?;
        stream.set_nonblocking(true).map_err(down)?;
        let mut stream = BufReader::new(UnixStream::from_std(stream).map_err(down)?);
        let mut request = serde_json::to_vec(&Request { v: VERSION, op }).unwrap_or_default();
        request.push(b'\n');
        stream.write_all(&request).await.map_err(down)?;
        Ok(Conversation { stream, line: Vec::new() })
    }

    /// The next reply, however long it takes.
    ///
    /// # Errors
    /// `SUPERVISOR_DOWN` where the other side has gone.
    pub async fn next(&mut self) -> Result<Reply, Report> {
        self.line.clear();
        let gone = |why: String| Report::new("SUPERVISOR_DOWN", format!("the supervisor hung up{why}"));
        match self.stream.read_until(b'\n', &mut self.line).await {
            Ok(0) => Err(gone(String::new())),
            Ok(_) => {
                serde_json::from_slice(&self.line).map_err(|error| gone(format!(" in the middle of a word: {error}")))
            }
            Err(error) => Err(gone(format!(": {error}"))),
        }
    }

    /// The next reply, which is due at once.
    ///
    /// # Errors
    /// `SUPERVISOR_UNRESPONSIVE` where it does not come within 5 s.
    pub async fn next_soon(&mut self) -> Result<Reply, Report> {
        timeout(PATIENCE, self.next()).await.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(Report::new("SUPERVISOR_UNRESPONSIVE", format!("the supervisor has not answered for {seconds} s"))
                .hint("it may be stopped (SIGSTOP) or the machine overloaded; kill it with -9 and it is started again"))
        })
    }
}

/// One call with one reply.
pub async fn call(dir: &Path, name: &str, op: Op) -> Result<Reply, Report> {
    Conversation::begin(dir, name, op).await?.next_soon().await
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
