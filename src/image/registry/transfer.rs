//! Downloads of layers: streamed to a file, verified on the way, and gone on with where they were cut.

use super::Registry;
use super::failure::{Failed, Pauses};
use crate::image::error::{Error, Result};
use crate::image::manifest::Descriptor;
use crate::image::partial::Partial;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// How many pieces may wait for the disk, of at most 0.4 MB (hyper): one is on its way there, and one from the network.
const PIECES_WAITING: usize = 1;
/// A try that brought this many bytes got somewhere: the count of tries begins anew.
const PROGRESS: u64 = 1 << 20;

/// What one layer's download has brought.
struct Download<'a> {
    descriptor: &'a Descriptor,
    got: u64,
    /// Whether the server took a range; one that answers nonsense to it is asked for everything again.
    ranges: bool,
    pieces: mpsc::Sender<Bytes>,
    arrived: &'a (dyn Fn(u64) + Send + Sync),
}

impl Registry {
    /// Downloads what is missing of a blob, its size and digest verified; `arrived` hears of each piece.
    ///
    /// Writing and hashing happen on a thread for blocking work, fed through a short queue. What has arrived stays when
    /// this fails, for another registry or process.
    pub(in crate::image) async fn download(
        &self,
        descriptor: &Descriptor,
        partial: &mut Partial,
        tries: u32,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        loop {
            if !partial.is_complete() {
                self.rest(descriptor, partial, tries, arrived).await?;
            }
            match partial.is_whole() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(digest) => {
                    let what = format!("layer {}: what arrived has the digest {digest}", descriptor.digest);
                    return Err(self.corrupt(what));
                }
            }
        }
    }

    async fn rest(
        &self,
        descriptor: &Descriptor,
        partial: &mut Partial,
        tries: u32,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let got = partial.got();
        let state = partial.lend()?;
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
        let writer = tokio::task::spawn_blocking(move || state.write(waiting));
        let mut download = Download { descriptor, got, ranges: true, pieces, arrived };
        let mut pauses = Pauses::new(tries);
        let outcome = loop {
            let before = download.got;
            match self.piece(&mut download).await {
                Ok(()) => break Ok(()),
                Err(failed) => {
                    if download.got - before >= PROGRESS {
                        pauses = Pauses::new(tries);
                    }
                    if let Err(error) = pauses.after(failed, self).await {
                        break Err(error);
                    }
                }
            }
        };
        drop(download);
        let (state, written) = writer.await.map_err(|_| Error::Cancelled)?;
        partial.give_back(state);
        written.map_err(|why| Error::store("write", partial.path(), why).needing(descriptor.size))?;
        outcome
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
            let fresh = chunk.slice(known as usize..);
            if fresh.is_empty() {
                continue;
            }
            if passed > *size {
                let what = format!("layer {digest}: more than the {size} bytes that its manifest says arrived");
                return Err(Failed::Final(self.corrupt(what)));
            }
            download.got = passed;
            (download.arrived)(fresh.len() as u64);
            if download.pieces.send(fresh).await.is_err() {
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
