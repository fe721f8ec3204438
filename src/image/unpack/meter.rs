//! What a layer may unpack to, and the reader that counts, hashes and bounds its uncompressed bytes.

use super::Failure;
use crate::image::digest::{Digest, Hasher};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a layer may unpack to. A layer beyond it is refused as unsafe.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Uncompressed bytes of one layer; also the bytes of its files, of which a sparse one has more than its entry.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one, once [`Limits::ratio_from`] is reached.
    pub ratio: u64,
    /// From how many uncompressed bytes on the ratio counts; small and empty things compress well.
    pub ratio_from: u64,
    /// Bytes of all paths of one layer together; they are held in memory until its end.
    pub names: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 2_000_000, bytes: 128 << 30, ratio: 250, ratio_from: 1 << 30, names: 256 << 20 }
    }
}

/// Why a read ended early; it travels inside an `io::Error` through decoders and comes out by [`failure`].
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Limit(String),
}

/// What a failed read of a layer means: the caller's wish, a limit, the disk, or damaged contents.
pub(super) fn failure(error: io::Error) -> Failure {
    if let Some(stop) = error.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()) {
        return match stop {
            Stop::Cancelled => Failure::Cancelled,
            Stop::Limit(why) => Failure::Unsafe { entry: "the whole layer".to_owned(), why: why.clone() },
        };
    }
    match error.raw_os_error() {
        Some(_) => Failure::Read(error),
        None => Failure::Corrupt(error.to_string()),
    }
}

/// Hashes, counts and bounds what passes through it.
pub(super) struct Metered<R> {
    inner: R,
    hasher: Hasher,
    read: u64,
    limits: Limits,
    compressed_size: u64,
    cancelled: Arc<AtomicBool>,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(inner: R, limits: Limits, compressed_size: u64, cancelled: Arc<AtomicBool>) -> Self {
        Metered { inner, hasher: Hasher::default(), read: 0, limits, compressed_size, cancelled }
    }

    /// How many bytes have come out.
    pub(super) fn read_so_far(&self) -> u64 {
        self.read
    }

    /// Reads what is behind the end of the archive (it counts for the diff id) and returns the digest of it all.
    pub(super) fn finish(mut self) -> io::Result<(R, Digest)> {
        let mut buffer = vec![0; super::BUFFER];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.inner, self.hasher.finish()))
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stop::Cancelled));
        }
        let stop = |what: String| Err(io::Error::other(Stop::Limit(what)));
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read += count as u64;
        if self.read > self.limits.bytes {
            return stop(format!("it has more than {} bytes uncompressed", self.limits.bytes));
        }
        if self.read > self.limits.ratio_from && self.read / self.limits.ratio > self.compressed_size {
            return stop(format!(
                "its {} bytes become more than {} times as many, as a decompression bomb's do",
                self.compressed_size, self.limits.ratio
            ));
        }
        Ok(count)
    }
}

/// Counts the compressed bytes of a blob and, where that was not done before, hashes them.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Option<Hasher>,
    read: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R, hash: bool) -> Self {
        Hashing { inner, hasher: hash.then(Hasher::default), read: 0 }
    }

    /// Reads to the end; returns the size and, where it was asked for, the digest of all.
    pub(super) fn finish(mut self) -> io::Result<(u64, Option<Digest>)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.read, self.hasher.map(Hasher::finish)))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.read += count as u64;
        Ok(count)
    }
}
