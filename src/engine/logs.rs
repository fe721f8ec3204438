//! A daemon's output, as every platform gives it.

use crate::error::Report;
use async_trait::async_trait;
use serde::Serialize;
use std::time::Duration;

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
