//! A program run beside a daemon, in its container: its streams and its end.

use super::status::ExitStatus;
use crate::error::Report;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Pieces of output or input on their way.
pub const PIECES: usize = 16;
/// Bytes of one piece.
const PIECE: usize = 32 * 1024;

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

/// Passes on what a stream of output has, until that ends or nobody wants it any more.
pub async fn copy(from: Option<impl AsyncRead + Unpin>, stream: Stream, to: &mpsc::Sender<Output>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.send(Output { stream, bytes: buffer[..count].to_vec() }).await.is_err() {
            return;
        }
    }
}

/// What is sent to the result becomes a program's input; when it is dropped, the program reads the end.
pub fn feed(mut input: impl AsyncWrite + Unpin + Send + 'static) -> mpsc::Sender<Vec<u8>> {
    let (give, mut take) = mpsc::channel::<Vec<u8>>(PIECES);
    tokio::spawn(async move {
        while let Some(bytes) = take.recv().await {
            if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                return;
            }
        }
        let _ = input.shutdown().await;
    });
    give
}
