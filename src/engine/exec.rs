//! A program run beside a daemon, in its container: its streams and its end.

use super::status::ExitStatus;
use crate::error::Report;
use tokio::sync::{mpsc, oneshot};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Program and arguments; there is no shell.
    pub command: Vec<String>,
    /// Whether it gets an input; without, it reads nothing.
    pub stdin: bool,
    /// Whether it gets a terminal: standard error then comes with standard output.
    pub tty: bool,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stream: Stream,
    pub bytes: Vec<u8>,
}

/// Where output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

/// A running program. Dropping the session ends the connection to it; what becomes of the program is its own affair, as
/// with `docker exec` and `kubectl exec`.
pub struct Session {
    /// Its input; dropped, it reads the end of it.
    pub stdin: Option<mpsc::Sender<Vec<u8>>>,
    /// Its output; ends when the program does.
    pub output: mpsc::Receiver<Output>,
    /// Tells a terminal its size.
    pub size: Option<mpsc::Sender<Size>>,
    /// How it ended. Comes after the last output.
    pub exit: oneshot::Receiver<Result<ExitStatus, Report>>,
}
