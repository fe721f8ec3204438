//! An image as an archive that a container engine loads, in the format of `docker save`.
//!
//! It is fetched here and not by the engine, so that mirrors, credentials, verification and errors are the same whichever
//! runtime a daemon has. Layers are put into the archive uncompressed: their digests are then those of the image's
//! configuration, and every engine reads them. The engine has the image by the name that it is given here.

use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::layers::{Arrivals, CancelOnDrop, Found, LayerJob};
use super::pull::{Listener, Located, Source, blocking};
use super::store::{Known, Session, Store};
use super::unpack::{Limits, write_plain};
use super::{Image, Options, Progress};
use crate::model::ImageReference;
use futures_util::future::try_join_all;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tar::Header;

/// A tar file's unit.
const BLOCK: u64 = 512;

/// An image, and what an engine that does not have it is to load.
pub struct Export {
    /// Without layers.
    pub image: Image,
    known: Known,
    archive: Option<(PathBuf, Arc<Session>)>,
}

impl Export {
    /// The file to load; `None` where the engine has the image. It goes with this value.
    pub fn archive(&self) -> Option<&Path> {
        self.archive.as_ref().map(|(path, _)| path.as_path())
    }
}

impl Store {
    /// Fetches and verifies what the engine does not have of an image, and makes an archive of it, in which the image is
    /// called as `name` says of its digest. For stores of [`Store::open_beside`].
    ///
    /// # Errors
    /// As [`Store::ensure`].
    pub async fn export(
        &self,
        reference: &ImageReference,
        options: &Options,
        name: impl FnOnce(&str) -> String,
        progress: Listener<'_>,
    ) -> Result<Export> {
        progress(Progress::Resolving);
        let mut located = self.find(reference, options, progress).await?;
        let lease = self.lease_of(&located)?;
        drop(located.gate.take());
        if let Some(reason) = &located.unreachable {
            progress(Progress::UsingCached { reason: reason.clone() });
        }
        let known = located.known.clone();
        progress(Progress::Resolved { digest: known.digest.to_string() });
        let archive = match &located.source {
            Some(source) if !self.is_complete(&known, &located.config) => {
                let made = self.archive(&located, source, &name(&known.digest.to_string()), progress).await?;
                source.said().into_iter().for_each(|what| progress(Progress::Asking { what }));
                Some(made)
            }
            _ => None,
        };
        Ok(Export { image: Image { layers: Vec::new(), ..self.image(located, lease) }, known, archive })
    }

    /// Remembers what a reference means, once the engine has the image.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::StoreNotWritable`], [`Error::Store`].
    pub fn loaded(&self, export: &Export) -> Result<()> {
        self.note_held(&export.image.digest, true);
        self.name(&export.image.reference, &export.known)
    }

    /// Forgets that the engine has an image.
    pub fn unloaded(&self, digest: &str) {
        self.note_held(digest, false);
    }

    async fn archive(
        &self,
        located: &Located,
        source: &Source,
        name: &str,
        progress: Listener<'_>,
    ) -> Result<(PathBuf, Arc<Session>)> {
        let session = Arc::new(self.session()?);
        let diff_ids = located.config.diff_ids();
        let bytes = located.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let copies = if matches!(source, Source::Registry(_)) { 2 } else { 1 };
        let store = self.clone();
        blocking(move || store.check_room(bytes.saturating_mul(copies))).await?;
        let arrivals = Arrivals::new(bytes, progress);
        let cancelled = CancelOnDrop::default();
        // Equal layers are one file.
        let once = |index: &usize| !diff_ids[..*index].contains(&diff_ids[*index]);
        let found = (0..diff_ids.len()).filter(once).map(|index| {
            let job = LayerJob {
                store: self,
                source,
                session: &session,
                layer: &located.layers[index],
                diff_id: &diff_ids[index],
                chain: &diff_ids[..=index],
                layers: diff_ids.len(),
                arrivals: &arrivals,
                cancelled: &cancelled.0,
                progress,
            };
            async move { job.find(index).await }
        });
        let found: Vec<Found<'_>> = try_join_all(found).await?;
        let place = found.first().map(|found| found.place.clone()).unwrap_or_default();
        let path = session.dir.join("image.tar");
        let config = self.config_of(&located.known, &place)?;
        let names = diff_ids.iter().map(file_of).collect::<Vec<_>>();
        let layers: Vec<_> = found.into_iter().map(|found| (found.blob, found.arrived)).collect();
        progress(Progress::Unpacking { layer: layers.len(), layers: layers.len() });
        let (limits, target, name, flag) =
            (self.limits().clone(), path.clone(), name.to_owned(), Arc::clone(&cancelled.0));
        // Held until the thread is done, so that the folder is not removed under it.
        let held = Arc::clone(&session);
        blocking(move || {
            let failed = |why| Error::store("write", &target, why);
            let mut archive = Writer::create(&target).map_err(failed)?;
            for (blob, arrived) in layers {
                archive.layer(&file_of(&blob.diff_id), &blob, &limits, &place, &flag)?;
                if let Some(partial) = arrived {
                    partial.discard().map_err(|why| Error::store("remove", &blob.path, why))?;
                }
            }
            archive.finish(&config, &name, &names).map_err(failed)?;
            drop(held);
            Ok(())
        })
        .await?;
        Ok((path, session))
    }

    /// The configuration's bytes, whose digest engines know the image by.
    fn config_of(&self, known: &Known, place: &Place) -> Result<Vec<u8>> {
        let gone = || Error::NotFound { place: Box::new(place.clone()), what: "its documents have gone".to_owned() };
        let document = self.blob(&known.document).ok_or_else(gone)?;
        // With `docker-archive:` and `docker-daemon:` the document is the configuration itself.
        match super::manifest::Document::parse(&document, place) {
            Ok(super::manifest::Document::Manifest(manifest)) => self.blob(&manifest.config.digest).ok_or_else(gone),
            _ => Ok(document),
        }
    }
}

/// A tar file that is being written.
struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    fn create(path: &Path) -> io::Result<Writer> {
        Ok(Writer { file: BufWriter::with_capacity(128 << 10, File::create_new(path)?) })
    }

    /// A layer, whose size is known once it has been written.
    fn layer(
        &mut self,
        name: &str,
        blob: &super::unpack::Blob,
        limits: &Limits,
        place: &Place,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<()> {
        let failed = |why| Error::store("write", &blob.path, why);
        let start = self.file.stream_position().map_err(failed)?;
        self.file.write_all(&[0; BLOCK as usize]).map_err(failed)?;
        let size = write_plain(blob, &mut self.file, limits, place, cancelled)?;
        self.pad(size)
            .and_then(|()| {
                let end = self.file.stream_position()?;
                self.file.seek(SeekFrom::Start(start))?;
                self.file.write_all(header(name, size)?.as_bytes())?;
                self.file.seek(SeekFrom::Start(end)).map(drop)
            })
            .map_err(failed)
    }

    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(header(name, bytes.len() as u64)?.as_bytes())?;
        self.file.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = size % BLOCK;
        if over > 0 {
            self.file.write_all(&vec![0; (BLOCK - over) as usize])?;
        }
        Ok(())
    }

    /// `manifest.json` (Docker image specification 1.2) and what it names besides the layers.
    fn finish(mut self, config: &[u8], name: &str, layers: &[String]) -> io::Result<()> {
        let document = format!("{}.json", Digest::of(config).hex());
        self.member(&document, config)?;
        let manifest = json!([{ "Config": document, "RepoTags": [name], "Layers": layers }]);
        self.member("manifest.json", manifest.to_string().as_bytes())?;
        self.file.write_all(&[0; 2 * BLOCK as usize])?;
        self.file.flush()
    }
}

fn file_of(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
