//! Downloads of layers: streamed to a file, verified on the way, and gone on with where they were cut.

use super::failure::{Failed, Pauses};
use super::{Registry, TRIES};
use crate::image::digest::{Digest, Hasher};
use crate::image::error::{Error, Result};
use crate::image::manifest::Descriptor;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use tokio::sync::mpsc;

/// How many pieces may wait for the disk; with hyper's largest one, 16 × 0.4 MB.
const PIECES_WAITING: usize = 16;
/// A try that brought this many bytes got somewhere: the count of tries begins anew.
const PROGRESS: u64 = 1 << 20;

/// What one layer's download has brought.
struct Download<'a> {
    descriptor: &'a Descriptor,
    got: u64,
    /// Whether the server took a range; one that answers nonsense to it is asked for everything again.
    ranges: bool,
    pieces: mpsc::Sender<Vec<u8>>,
    arrived: &'a (dyn Fn(u64) + Send + Sync),
}

impl Registry {
    /// Downloads a blob into the new file `path`, its size and digest verified; `arrived` hears of each piece.
    ///
    /// Writing and hashing happen on a thread for blocking work, fed through a short queue.
    pub(in crate::image) async fn download(
        &self,
        descriptor: &Descriptor,
        path: &Path,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let file = File::options().write(true).create_new(true).open(path);
        let failed = |why| Error::store("write", path, why).needing(descriptor.size);
        let file = file.map_err(failed)?;
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
        let writer = tokio::task::spawn_blocking(move || write(file, waiting));
        let mut download = Download { descriptor, got: 0, ranges: true, pieces, arrived };
        let mut pauses = Pauses::new(TRIES);
        loop {
            let before = download.got;
            match self.piece(&mut download).await {
                Ok(()) => break,
                Err(failed) => {
                    if download.got - before >= PROGRESS {
                        pauses = Pauses::new(TRIES);
                    }
                    pauses.after(failed, self).await?;
                }
            }
        }
        drop(download);
        let digest = writer.await.unwrap_or_else(|why| Err(io::Error::other(why))).map_err(failed)?;
        if digest == descriptor.digest {
            return Ok(());
        }
        Err(self.corrupt(format!("layer {}: what arrived has the digest {digest}", descriptor.digest)))
    }

    /// One try: asks for what is still missing and passes on what comes. `Ok` when all is there, or when the writer
    /// has failed and says why itself.
    async fn piece(&self, download: &mut Download<'_>) -> Result<(), Failed> {
        let Descriptor { digest, size, .. } = download.descriptor;
        let from = if download.ranges { download.got } else { 0 };
        let mut response = self.get(&format!("blobs/{digest}"), from).await?;
        // A server may ignore the range and begin anew; then what is here already is passed over.
        let mut passed = 0;
        if response.status() != StatusCode::OK {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
                download.ranges = false;
                let why = "it did not send the part of a layer that it was asked for".to_owned();
                return Err(Failed::Transient { why, retry_after: None });
            }
            passed = from;
        }
        while let Some(chunk) = response.chunk().await.map_err(|why| self.failed(why))? {
            let known = (download.got - passed).min(chunk.len() as u64);
            passed += chunk.len() as u64;
            let fresh = &chunk[known as usize..];
            if fresh.is_empty() {
                continue;
            }
            if passed > *size {
                let what = format!("layer {digest}: more than the {size} bytes that its manifest says arrived");
                return Err(Failed::Final(self.corrupt(what)));
            }
            download.got = passed;
            (download.arrived)(fresh.len() as u64);
            if download.pieces.send(fresh.to_vec()).await.is_err() {
                return Ok(());
            }
        }
        if download.got < *size {
            let why = format!("the connection was cut after {} of {size} bytes of layer {digest}", download.got);
            return Err(Failed::Transient { why, retry_after: None });
        }
        Ok(())
    }
}

/// Writes what arrives until there is no more; returns the digest of it all.
fn write(mut file: File, mut waiting: mpsc::Receiver<Vec<u8>>) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    while let Some(piece) = waiting.blocking_recv() {
        file.write_all(&piece)?;
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}
