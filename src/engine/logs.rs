//! A daemon's output, as every platform gives it.

use super::platform::Platform;
use crate::error::Report;
use crate::sys::time;
use async_trait::async_trait;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only the last so many of those that are there; all by default.
    pub tail: Option<usize>,
    /// Only lines from this moment on: time since 1970.
    pub since: Option<Duration>,
    /// Whether to wait for more once the end is reached.
    pub follow: bool,
    /// Those of the run before the present one instead. Not together with `follow`.
    pub previous: bool,
}

/// A line of a daemon's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it was read, RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The text, without its line end; bytes that are not UTF-8 are replaced by U+FFFD.
    pub line: String,
    /// Whether the line goes on in the next one of its stream: it was longer than 16 KiB.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Lines given at once, so that a reader who cannot keep up holds no more than this.
pub const BATCH: usize = 512;

/// A place in a daemon's log.
#[async_trait]
pub trait LogReader: Send {
    /// The next lines, at most [`BATCH`]; none once the end is reached and nothing is to be followed, or the daemon is
    /// gone.
    async fn next(&mut self) -> Result<Vec<Line>, Report>;
}

/// A log that a task of its own reads, no further ahead than a batch.
pub struct ReadAhead {
    lines: mpsc::Receiver<Result<Line, Report>>,
    _task: JoinSet<()>,
}

impl ReadAhead {
    /// Begins to read: `read` tells line after line, until there are no more or nobody listens.
    pub fn new<F>(read: impl FnOnce(mpsc::Sender<Result<Line, Report>>) -> F) -> ReadAhead
    where
        F: Future<Output = Result<(), Stopped>> + Send + 'static,
    {
        let (tell, lines) = mpsc::channel(BATCH);
        let reading = read(tell.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(Stopped::Failed(error)) = reading.await {
                let _ = tell.send(Err(*error)).await;
            }
        });
        ReadAhead { lines, _task: task }
    }
}

#[async_trait]
impl LogReader for ReadAhead {
    async fn next(&mut self) -> Result<Vec<Line>, Report> {
        let mut batch = Vec::new();
        self.lines.recv_many(&mut batch, BATCH).await;
        batch.into_iter().collect()
    }
}

/// Why reading ends early.
pub enum Stopped {
    /// Nobody listens any more.
    Unheard,
    Failed(Box<Report>),
}

impl From<Report> for Stopped {
    fn from(report: Report) -> Stopped {
        Stopped::Failed(Box::new(report))
    }
}

/// A reader of one daemon's log; with `until` (time since 1970) only of its lines up to then, and it ends there.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, `RESOURCE_NOT_FOUND`.
pub async fn open(
    platform: &dyn Platform,
    deployment: &str,
    id: &str,
    options: Options,
    until: Option<Duration>,
) -> Result<Box<dyn LogReader>, Report> {
    let Some(until) = until else { return platform.logs(deployment, id, options).await };
    let is_past = until <= time::wall();
    // Of what is over, the last lines are others than those of all there is.
    let tail = options.tail.filter(|_| is_past);
    let inner =
        Options { follow: options.follow && !is_past, tail: if is_past { None } else { options.tail }, ..options };
    let follow = inner.follow;
    let reader = platform.logs(deployment, id, inner).await?;
    Ok(Box::new(Until { reader, until, text: time::rfc3339(until), follow, tail, ended: false }))
}

/// A log up to a moment.
struct Until {
    reader: Box<dyn LogReader>,
    until: Duration,
    text: String,
    follow: bool,
    /// Only the last so many.
    tail: Option<usize>,
    ended: bool,
}

impl Until {
    /// The next lines up to the moment; none at the end.
    async fn step(&mut self) -> Result<Vec<Line>, Report> {
        if self.ended {
            return Ok(Vec::new());
        }
        let mut lines = if self.follow {
            tokio::select! {
                biased;
                lines = self.reader.next() => lines?,
                () = tokio::time::sleep(self.until.saturating_sub(time::wall())) => Vec::new(),
            }
        } else {
            self.reader.next().await?
        };
        let wanted = lines.iter().position(|line| line.time > self.text).unwrap_or(lines.len());
        self.ended = lines.is_empty() || wanted < lines.len();
        lines.truncate(wanted);
        Ok(lines)
    }
}

#[async_trait]
impl LogReader for Until {
    async fn next(&mut self) -> Result<Vec<Line>, Report> {
        let Some(tail) = self.tail.take() else { return self.step().await };
        let mut last = VecDeque::new();
        while !self.ended {
            last.extend(self.step().await?);
            last.drain(..last.len().saturating_sub(tail));
        }
        // More than a batch at once, but no more than was asked for.
        Ok(last.into())
    }
}
