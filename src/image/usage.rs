//! What is in the store and how much room it takes.

use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::{ConfigDocument, Document};
use super::store::Store;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// An image that is in the store, whole or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The names it was fetched by, sorted.
    pub references: Vec<String>,
    /// What it is known by, `sha256:…`.
    pub digest: String,
    /// Names of its layers that are here, lowest first: 64 hex digits.
    pub layers: Vec<String>,
    /// Bytes on disk of these layers.
    pub bytes: u64,
    /// Its documents' names.
    pub(super) documents: Vec<String>,
}

impl Store {
    /// The images that are here, by digest.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn images(&self) -> Result<Vec<Kept>> {
        let mut known: BTreeMap<Digest, (BTreeSet<String>, Digest)> = BTreeMap::new();
        for record in self.records()? {
            let entry = known.entry(record.digest.clone());
            let document = record.document.unwrap_or(record.digest);
            // A name that was pinned for one fetch says no more than its tag and the digest beside it.
            let reference = match record.reference.split_once('@') {
                Some((name, _)) if name.rsplit('/').next().is_some_and(|last| last.contains(':')) => name.to_owned(),
                _ => record.reference,
            };
            entry.or_insert_with(|| (BTreeSet::new(), document)).0.insert(reference);
        }
        let mut images = Vec::new();
        for (digest, (mut references, document)) in known {
            let Some((documents, chain)) = self.contents(&document) else { continue };
            let layers: Vec<String> =
                chain.iter().filter(|layer| self.has_layer(layer)).map(|layer| layer.hex().to_owned()).collect();
            let bytes = layers.iter().map(|layer| self.layer_bytes(layer)).sum();
            // By its ID it was fetched for a name that is here as well.
            if references.len() > 1 {
                references.retain(|reference| *reference != format!("docker-daemon:{digest}"));
            }
            let references = references.into_iter().collect();
            images.push(Kept { references, digest: digest.to_string(), layers, bytes, documents });
        }
        Ok(images)
    }

    /// The names of an image's documents, and its layers.
    fn contents(&self, document: &Digest) -> Option<(Vec<String>, Vec<Digest>)> {
        let bytes = self.blob(document)?;
        let (mut names, mut config) = (vec![document.hex().to_owned()], bytes.clone());
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, &Place::default()) {
            names.push(manifest.config.digest.hex().to_owned());
            config = self.blob(&manifest.config.digest)?;
        }
        let config = ConfigDocument::parse(&config, &Place::default()).ok()?;
        Some((names, Digest::chain(config.diff_ids())))
    }

    /// Names of the layers that are here.
    pub(super) fn layer_names(&self) -> Result<Vec<String>> {
        let failed = |why| Error::store("read", self.layers_dir(), why);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.layers_dir()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(name) = entry.file_name().to_str().filter(|name| !name.contains('.')) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Bytes of a layer on disk, as they were counted when it was unpacked.
    pub fn layer_bytes(&self, layer: &str) -> u64 {
        let dir = self.layers_dir().join(layer);
        let noted = fs::read_to_string(dir.with_extension("size")).ok();
        noted.and_then(|text| text.parse().ok()).unwrap_or_else(|| bytes_below(&dir))
    }

    /// Bytes of everything that is here: each layer once, and what has not arrived whole.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn bytes(&self) -> Result<u64> {
        let layers: u64 = self.layer_names()?.iter().map(|layer| self.layer_bytes(layer)).sum();
        let rest = ["blobs", "partial", "refs", "tmp"].iter().map(|name| bytes_below(&self.dir().join(name)));
        Ok(layers + rest.sum::<u64>())
    }

    /// Whether there is room for what is about to be fetched: on the disk, and within the store's limit.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::StoreOverLimit`], each with the bytes that are needed and those that are free.
    pub(super) fn check_room(&self, needed: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(self.dir()).map_err(|why| Error::store("look at", self.dir(), why.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed > free {
            return Err(Error::StoreFull { path: self.dir().to_owned(), needed: Some(needed), free: Some(free) });
        }
        let Some(limit) = self.max_bytes() else { return Ok(()) };
        let used = self.bytes()?;
        if used.saturating_add(needed) > limit {
            return Err(Error::StoreOverLimit { path: self.dir().to_owned(), needed, used, limit });
        }
        Ok(())
    }
}

/// Bytes on disk of everything at and below a path, hard links counted once. What cannot be looked at counts nothing.
pub fn bytes_below(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut HashSet<(u64, u64)>) -> io::Result<u64> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_dir() {
            let again = meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino()));
            return Ok(if again { 0 } else { meta.blocks() * 512 });
        }
        let mut bytes = meta.blocks() * 512;
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            bytes += add(&entry.path(), seen).unwrap_or(0);
        }
        Ok(bytes)
    }
    add(path, &mut HashSet::new()).unwrap_or(0)
}
