//! Reading ahead: uncompressing and hashing on one processor while another makes files of what came out.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Bytes that are handed over at once.
const PIECE: usize = super::BUFFER;
/// How many pieces there are, full, empty or in somebody's hands.
const PIECES: usize = 4;

/// What a thread has read ahead.
pub(super) struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    /// Where in the piece the reader is.
    at: usize,
}

/// Reads `source` to its end, ahead of who reads the result; gives `source` back once it has been read, or nobody wants
/// more of it.
pub(super) fn read_ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut source: R,
) -> io::Result<(Ahead, ScopedJoinHandle<'scope, R>)> {
    let (fill, full) = sync_channel(PIECES);
    let (empty, emptied) = sync_channel(PIECES);
    for _ in 1..PIECES {
        let _ = empty.send(Vec::with_capacity(PIECE));
    }
    let thread = std::thread::Builder::new().name("alien-unpack".to_owned()).spawn_scoped(scope, move || {
        while let Ok(mut piece) = emptied.recv() {
            piece.resize(PIECE, 0);
            let (filled, read) = read_full(&mut source, &mut piece);
            piece.truncate(filled);
            let over = filled < PIECE;
            // What came before an error counts: an archive may end before it does.
            if (!piece.is_empty() && fill.send(Ok(piece)).is_err()) || over {
                if let Err(error) = read {
                    let _ = fill.send(Err(error));
                }
                break;
            }
        }
        source
    })?;
    Ok((Ahead { full, empty, piece: Vec::with_capacity(PIECE), at: 0 }, thread))
}

/// Reads until the piece is full or nothing comes any more. How much that is, and why it ended early where it failed.
fn read_full(source: &mut impl Read, piece: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < piece.len() {
        match source.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // The other side has gone: that was all.
            let Ok(piece) = self.full.recv() else { return Ok(0) };
            let read = std::mem::replace(&mut self.piece, piece?);
            self.at = 0;
            let _ = self.empty.send(read);
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..][..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in odd amounts, and fails at the end where told to.
    struct Source {
        left: usize,
        fails: bool,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("broken"));
            }
            let count = buffer.len().min(self.left).min(7777);
            for (index, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = ((self.left - index) % 251) as u8;
            }
            self.left -= count;
            Ok(count)
        }
    }

    fn all(size: usize) -> Vec<u8> {
        (1..=size).rev().map(|left| (left % 251) as u8).collect()
    }

    #[test]
    fn everything_arrives_in_order_and_the_source_comes_back() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let (read, source) = std::thread::scope(|scope| {
                let (mut ahead, thread) = read_ahead(scope, Source { left: size, fails: false }).unwrap();
                let mut read = Vec::new();
                ahead.read_to_end(&mut read).unwrap();
                (read, thread.join().unwrap())
            });
            assert!(read == all(size), "{size} bytes");
            assert_eq!(source.left, 0);
        }
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        for size in [0, 5, PIECE, 2 * PIECE + 5] {
            std::thread::scope(|scope| {
                let (mut ahead, _thread) = read_ahead(scope, Source { left: size, fails: true }).unwrap();
                let mut read = Vec::new();
                assert_eq!(ahead.read_to_end(&mut read).unwrap_err().to_string(), "broken");
                assert!(read == all(size), "{size} bytes");
            });
        }
    }

    #[test]
    fn who_stops_reading_stops_the_thread() {
        std::thread::scope(|scope| {
            let (mut ahead, thread) = read_ahead(scope, Source { left: 100 * PIECE, fails: false }).unwrap();
            ahead.read_exact(&mut [0; 10]).unwrap();
            drop(ahead);
            assert!(thread.join().unwrap().left > 90 * PIECE);
        });
    }
}
