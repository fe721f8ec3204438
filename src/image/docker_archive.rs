//! `docker-archive:`: what `docker save` and `skopeo copy` write (`containers-transports(5)`; Docker image
//! specification 1.2, "Combined Image JSON + Filesystem Changeset Format").
//!
//! `manifest.json` names each image's configuration, its layers and its tags; where these lie in the tar differs: in
//! folders of their own (`<id>/layer.tar`, with links where images share one), in one (skopeo), or since Docker 25 as
//! blobs of an OCI layout. Only the names in `manifest.json` are followed, so all of them read alike.
//!
//! An image is known by its **image ID**, the digest of its configuration, as `docker images --no-trunc` shows it. That
//! names all of its contents, because the configuration holds the digests of the layers, and it does not depend on who
//! wrote the archive, as the digest of a manifest made for it would.

use super::archive::{Archive, Compression, Location, compression};
use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::{CONFIG_MAX, ConfigDocument, Descriptor, LAYERS_MAX, MANIFEST_MAX, Manifest};
use super::store::Session;
use super::unpack::{Limits, uncompress};
use crate::model::RegistryReference;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a layer is called in the manifest that is put together here; its first bytes say how it is compressed.
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// One image of an archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    place: Place,
    /// The configuration as it lies in the archive; the image ID is its digest.
    pub(super) config: Vec<u8>,
    layers: Vec<Location>,
    /// Digests of the OCI descriptors, where the archive is a layout as well.
    pub(super) also_known_as: Vec<Digest>,
    /// Holds the folder of an archive that had to be uncompressed, or was fetched.
    _session: Option<Arc<Session>>,
}

/// An entry of `manifest.json`. Go writes empty lists as null.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl DockerArchive {
    /// Opens the image that `wanted` (a name, or `@` and a number) chooses. The file may lie in a session's folder. A
    /// compressed one is uncompressed first, into a session that `make` makes. Blocking.
    pub(super) fn open(
        path: &Path,
        wanted: Option<&str>,
        place: Place,
        limits: &Limits,
        cancelled: &Arc<AtomicBool>,
        session: Option<Arc<Session>>,
        make: impl FnOnce() -> Result<Arc<Session>>,
    ) -> Result<DockerArchive> {
        let shown = path.display();
        let corrupt = |what: String| Error::Corrupt { place: Box::new(place.clone()), what };
        let not_found = |what: String| Error::NotFound { place: Box::new(place.clone()), what };
        let packed = compression(path).map_err(|why| not_found(format!("{shown} cannot be read: {why}")))?;
        let (path, session): (PathBuf, _) = match packed {
            Compression::Plain => (path.to_owned(), session),
            _ => {
                let session = session.map_or_else(make, Ok)?;
                let plain = session.dir.join("archive.tar");
                uncompress(path, &plain, limits, &place, cancelled)?;
                (plain, Some(session))
            }
        };
        let archive = Archive::open(&path).map_err(|why| corrupt(format!("{shown} is not a tar archive: {why}")))?;
        let read = |name: &str, max: u64| {
            let location =
                archive.file_through_links(name).ok_or_else(|| not_found(format!("{shown} holds no {name}")))?;
            if location.size > max {
                return Err(corrupt(format!("{name} has {} bytes, more than {max}", location.size)));
            }
            location.read().map_err(|why| not_found(format!("{shown} cannot be read: {why}")))
        };
        if archive.file("manifest.json").is_none() && archive.file("index.json").is_some() {
            return Err(Error::Unsupported {
                place: Box::new(place.clone()),
                what: format!("{shown} is an OCI layout without Docker's manifest.json"),
                hint: format!("name it as what it is: oci-archive:{shown}"),
            });
        }
        let entries: Vec<Entry> = serde_json::from_slice(&read("manifest.json", MANIFEST_MAX)?)
            .map_err(|why| corrupt(format!("its manifest.json is not valid: {why}")))?;
        let entry = choose(&entries, wanted, &shown.to_string()).map_err(not_found)?;
        let config = read(&entry.config, CONFIG_MAX)?;
        // The name is the image ID, where the writer follows the specification.
        let id = Digest::of(&config);
        let named = entry.config.rsplit('/').next().unwrap_or_default();
        let named = named.strip_suffix(".json").unwrap_or(named);
        if Digest::try_from(format!("sha256:{named}")).is_ok_and(|named| named != id) {
            return Err(corrupt(format!("its configuration {} has the digest {id}", entry.config)));
        }
        let names = entry.layers.as_deref().unwrap_or_default();
        if names.len() > LAYERS_MAX {
            return Err(corrupt(format!("it has {} layers, more than {LAYERS_MAX}", names.len())));
        }
        let layer = |name: &String| {
            archive.file_through_links(name).ok_or_else(|| not_found(format!("{shown} holds no {name}")))
        };
        let layers = names.iter().map(layer).collect::<Result<_>>()?;
        let also_known_as = read("index.json", MANIFEST_MAX).map(|index| descriptors(&index)).unwrap_or_default();
        Ok(DockerArchive { config, layers, also_known_as, _session: session, place })
    }

    /// What errors about this image say of it.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// A manifest for the image: the archive has none of its own that fits its layers. Each layer goes by its diff id.
    pub(super) fn manifest(&self, config: &ConfigDocument) -> Manifest {
        let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: None,
        };
        let layers = self.layers.iter().zip(config.diff_ids());
        Manifest {
            config: descriptor("", Digest::of(&self.config), self.config.len() as u64),
            layers: layers.map(|(layer, id)| descriptor(LAYER_TYPE, id.clone(), layer.size)).collect(),
        }
    }

    /// The error for a document that no archive of this kind holds: its one manifest is made here.
    pub(super) fn has_no(&self, digest: &Digest) -> Error {
        Error::NotFound { place: Box::new(self.place.clone()), what: format!("the archive holds no blob {digest}") }
    }

    /// How many layers there are.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Where a layer lies, counted from the lowest, 0.
    pub(super) fn layer(&self, index: usize) -> Option<&Location> {
        self.layers.get(index)
    }
}

/// The digests in an `index.json`; none where it is not one.
fn descriptors(index: &[u8]) -> Vec<Digest> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Descriptor>,
    }
    let index: Option<Index> = serde_json::from_slice(index).ok();
    index.map_or_else(Vec::new, |index| index.manifests.into_iter().map(|entry| entry.digest).collect())
}

/// The image that is meant, or why none is.
fn choose<'e>(entries: &'e [Entry], wanted: Option<&str>, file: &str) -> Result<&'e Entry, String> {
    let mut names: Vec<&str> =
        entries.iter().flat_map(|entry| entry.repo_tags.iter().flatten()).map(String::as_str).collect();
    // Engines save several in no order.
    names.sort_unstable();
    let has = match (entries.len(), names.is_empty()) {
        (0, _) => "no image".to_owned(),
        (count, true) => format!("{count} without a name, :@0 to :@{}", count - 1),
        (_, false) => names.join(", "),
    };
    let Some(wanted) = wanted else {
        return match entries {
            [only] => Ok(only),
            _ => Err(format!("{file} has {has}; name one of them behind the path")),
        };
    };
    let found = match wanted.strip_prefix('@') {
        Some(index) => index.parse().ok().and_then(|index: usize| entries.get(index)),
        None => {
            let full = |name: &str| RegistryReference::parse(name).ok().map(|reference| reference.to_string());
            let wanted = full(wanted);
            let fits = |name: &String| wanted.is_some() && full(name) == wanted;
            entries.iter().find(|entry| entry.repo_tags.iter().flatten().any(fits))
        }
    };
    found.ok_or_else(|| format!("{file} has {has}, not {wanted}"))
}
