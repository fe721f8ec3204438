//! The layers of an image on their way into the store: downloaded side by side, unpacked from the lowest up, and named once
//! they have reached the disk.

use super::Progress;
use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::Descriptor;
use super::partial::Partial;
use super::pull::{Listener, Located, Source, blocking};
use super::registry::Registries;
use super::store::{Session, Store};
use super::sync::Syncs;
use super::unpack::{Blob, Lower, Target, unpack};
use futures_util::future::try_join_all;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const PROGRESS_EVERY: Duration = Duration::from_millis(50);

impl Store {
    /// Fetches and unpacks the layers that are missing. When it fails or is dropped, threads stop at their next read.
    pub(super) async fn fetch_layers(&self, located: &Located, source: &Source, progress: Listener<'_>) -> Result<()> {
        let session = Arc::new(self.session()?);
        let chain = Digest::chain(located.config.diff_ids());
        let missing = chain.iter().zip(&located.layers).filter(|(chain_id, _)| !self.has_layer(chain_id));
        let bytes = missing.fold(0_u64, |sum, (_, layer)| sum.saturating_add(layer.size));
        // The least that it can take: a layer unpacks to no less than it has compressed, and what is downloaded is
        // there beside it for a while.
        let copies = if matches!(source, Source::Registry(_)) { 2 } else { 1 };
        let store = self.clone();
        blocking(move || store.check_room(bytes.saturating_mul(copies))).await?;
        let arrivals = Arrivals::new(bytes, progress);
        let cancelled = CancelOnDrop::default();
        let syncs = Syncs::of(&session.dir)?;
        let mut below: Option<oneshot::Receiver<()>> = None;
        let mut layers = Vec::new();
        for (index, layer) in located.layers.iter().enumerate() {
            let (whole, above) = oneshot::channel();
            let job = LayerJob {
                store: self,
                source,
                session: &session,
                layer,
                diff_id: &located.config.diff_ids()[index],
                chain: &chain[..=index],
                layers: chain.len(),
                arrivals: &arrivals,
                cancelled: &cancelled.0,
                progress,
            };
            let lower = below.replace(above);
            let syncs = &syncs;
            layers.push(async move { job.run(lower, whole, syncs).await });
        }
        try_join_all(layers).await?;
        let store = self.clone();
        blocking(move || store.sync_names()).await
    }
}

/// One layer on its way into the store.
pub(super) struct LayerJob<'a> {
    pub(super) store: &'a Store,
    pub(super) source: &'a Source,
    pub(super) session: &'a Arc<Session>,
    pub(super) layer: &'a Descriptor,
    pub(super) diff_id: &'a Digest,
    /// Chain ids of the layers below and, last, of this one.
    pub(super) chain: &'a [Digest],
    pub(super) layers: usize,
    pub(super) arrivals: &'a Arrivals<'a>,
    pub(super) cancelled: &'a Arc<AtomicBool>,
    pub(super) progress: Listener<'a>,
}

/// A layer's bytes on disk.
pub(super) struct Found<'a> {
    pub(super) blob: Blob,
    /// Where they were downloaded; nobody needs them once they have been read.
    pub(super) arrived: Option<Partial>,
    pub(super) place: &'a Place,
}

impl<'a> LayerJob<'a> {
    /// Makes the layer be in the store; `whole` is told as soon as another can be laid on it.
    async fn run(&self, below: Option<oneshot::Receiver<()>>, whole: oneshot::Sender<()>, syncs: &Syncs) -> Result<()> {
        let Some((chain_id, below_ids)) = self.chain.split_last() else { return Ok(()) };
        // Another call in this process may be at the same layer.
        let turn = turn_at(self.store.layer_dir(chain_id));
        let _turn = turn.lock().await;
        if self.store.has_layer(chain_id) {
            wait_for(below).await?;
            // The layer above may have failed and be gone.
            let _ = whole.send(());
            return Ok(());
        }
        let Found { blob, arrived, place } = self.find(below_ids.len()).await?;
        wait_for(below).await?;
        (self.progress)(Progress::Unpacking { layer: self.chain.len(), layers: self.layers });
        let lowers = below_ids.iter().map(|id| self.lower(id)).collect::<Result<_>>()?;
        let target = Target { tree: self.half_made(chain_id), owners: self.half_made_owners(chain_id), lowers };
        let (store, place, chain_id) = (self.store.clone(), place.clone(), chain_id.clone());
        // Held until the thread is done, so that the folder is not removed under it.
        let (session, cancelled) = (self.session.clone(), self.cancelled.clone());
        let (target, has_owners) = blocking(move || {
            let unpacked = unpack(&blob, &target, store.limits(), &place, &cancelled);
            // It stays for another try only where nobody wanted to wait for this one.
            if let Some(partial) = arrived.filter(|_| !matches!(unpacked, Err(Error::Cancelled))) {
                partial.discard().map_err(|why| Error::store("remove", &blob.path, why))?;
            }
            drop(session);
            Ok((target, unpacked?))
        })
        .await?;
        let _ = whole.send(());
        syncs.sync().await?;
        let (store, session) = (self.store.clone(), self.session.clone());
        blocking(move || {
            store.publish_layer(&target.tree, has_owners.then_some(&target.owners), &chain_id)?;
            drop(session);
            Ok(())
        })
        .await
    }

    /// Where a layer is made.
    fn half_made(&self, chain_id: &Digest) -> PathBuf {
        self.session.dir.join(chain_id.hex())
    }

    fn half_made_owners(&self, chain_id: &Digest) -> PathBuf {
        self.session.dir.join(format!("{}.owners", chain_id.hex()))
    }

    /// A layer below, which is whole: where it was made, or in the store, where it may be moved to just now.
    fn lower(&self, id: &Digest) -> Result<Lower> {
        let store = self.store;
        let open = |made: PathBuf, kept: PathBuf| match File::open(made) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => File::open(kept),
            opened => opened,
        };
        let tree = open(self.half_made(id), store.layer_dir(id));
        let owners = match open(self.half_made_owners(id), store.owners_file(id)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        };
        let failed = |why| Error::store("open", &store.layer_dir(id), why);
        Ok(Lower { tree: tree.map_err(failed)?, owners: owners.map_err(failed)? })
    }

    /// Has the layer's bytes, the `index`-th counted from the lowest, 0, on disk.
    pub(super) async fn find(&self, index: usize) -> Result<Found<'a>> {
        let (layer, diff_id) = (self.layer, self.diff_id.clone());
        let mut arrived = None;
        let (blob, place) = match self.source {
            Source::Registry(registry) => {
                let partial = self.download(registry).await?;
                let (path, size, digest) = (partial.path().to_owned(), layer.size, layer.digest.clone());
                arrived = Some(partial);
                (Blob { path, offset: 0, size, digest, verified: true, diff_id }, registry.place())
            }
            Source::Layout(layout) => {
                let found = layout.locate(&layer.digest)?;
                if found.size != layer.size {
                    let (is, says) = (found.size, layer.size);
                    let what = format!("layer {} has {is} bytes, its manifest says {says}", layer.digest);
                    return Err(Error::Corrupt { place: Box::new(layout.place().clone()), what });
                }
                let (size, digest) = (found.size, layer.digest.clone());
                (
                    Blob { path: found.path, offset: found.offset, size, digest, verified: false, diff_id },
                    layout.place(),
                )
            }
            Source::DockerArchive(archive) => {
                let Some(found) = archive.layer(index) else { return Err(archive.has_no(&layer.digest)) };
                // Its diff id, which is looked at in any case, is all that is known of it.
                let (path, offset, size) = (found.path.clone(), found.offset, found.size);
                (Blob { path, offset, size, digest: layer.digest.clone(), verified: true, diff_id }, archive.place())
            }
        };
        Ok(Found { blob, arrived, place })
    }

    /// Downloads the layer, or what an earlier process has left of it to do.
    async fn download(&self, registry: &Registries) -> Result<Partial> {
        let _permit = self.store.downloads().acquire().await;
        let (descriptor, shared, own) = (self.layer.clone(), self.store.partial_dir(), self.session.dir.clone());
        let mut partial = blocking(move || Partial::open(&descriptor, &shared, &own)).await?;
        self.arrivals.add(partial.found);
        match registry.download(self.layer, &mut partial, &|bytes| self.arrivals.add(bytes)).await {
            Ok(()) => Ok(partial),
            // Goes on from there when the registry is back.
            Err(error @ (Error::Unreachable { .. } | Error::Cancelled)) => Err(error),
            Err(error) => {
                // That it could not be removed is the lesser trouble.
                let _ = partial.discard();
                Err(error)
            }
        }
    }
}

/// Waits until the layer below is in the store. When it fails, its error ends the whole call, and with it this wait.
async fn wait_for(below: Option<oneshot::Receiver<()>>) -> Result<()> {
    if let Some(below) = below
        && below.await.is_err()
    {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Tells threads to stop when the call that started them is let go of.
#[derive(Default)]
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whose turn it is.
pub type Turn = tokio::sync::Mutex<()>;

/// One lock for each thing that this process is making, by where it will be, whichever store handle is used.
pub fn turn_at(path: PathBuf) -> Arc<Turn> {
    static TURNS: LazyLock<Mutex<HashMap<PathBuf, Weak<Turn>>>> = LazyLock::new(Mutex::default);
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| turn.strong_count() > 0);
    if let Some(turn) = turns.get(&path).and_then(Weak::upgrade) {
        return turn;
    }
    let turn = Arc::new(Turn::default());
    turns.insert(path, Arc::downgrade(&turn));
    turn
}

/// Adds up what arrives and tells of it, not too often.
pub(super) struct Arrivals<'a> {
    bytes: AtomicU64,
    total_bytes: u64,
    told: Mutex<Option<Instant>>,
    progress: Listener<'a>,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(total_bytes: u64, progress: Listener<'a>) -> Arrivals<'a> {
        Arrivals { bytes: AtomicU64::new(0), total_bytes, told: Mutex::new(None), progress }
    }

    pub(super) fn add(&self, more: u64) {
        // What has to be fetched twice counts once.
        let bytes = (self.bytes.fetch_add(more, Ordering::Relaxed) + more).min(self.total_bytes);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes == self.total_bytes || told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            *told = Some(Instant::now());
            (self.progress)(Progress::Downloading { bytes, total_bytes: self.total_bytes });
        }
    }
}
