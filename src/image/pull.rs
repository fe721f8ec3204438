//! The way from a reference to its manifest and configuration: store, registry or layout, index by index. That of the
//! two Docker transports is in `pull_docker`.

use super::digest::Digest;
use super::docker_archive::DockerArchive;
use super::error::{Error, Place, Result};
use super::layout::Layout;
use super::lease::{Gate, Lease};
use super::manifest::{CONFIG_MAX, ConfigDocument, Descriptor, Document, MANIFEST_MAX, Manifest};
use super::platform::Platform;
use super::registry::{Registries, TRIES};
use super::store::{Known, Store};
use super::{Image, Options, Progress, PullPolicy, Resolved};
use crate::model::image_reference::{ImageReference, RegistryReference};
use rustix::fs::FlockOperation;
use std::path::Path;

/// How often a registry is tried while what is here can stand in for it.
const TRIES_WHEN_CACHED: u32 = 2;
/// Indexes inside indexes: that of a layout, that of an image, and one more.
const INDEXES_MAX: usize = 3;

/// Who hears what happens.
pub(super) type Listener<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Where an image's blobs come from.
pub(super) enum Source {
    Registry(Box<Registries>),
    Layout(Box<Layout>),
    DockerArchive(Box<DockerArchive>),
}

/// An image whose documents are known.
pub(super) struct Located {
    pub(super) reference: String,
    /// What it is known by, and found again by.
    pub(super) known: Known,
    /// As its source has them; nothing when everything is here.
    pub(super) layers: Vec<Descriptor>,
    pub(super) config: ConfigDocument,
    /// Where that is a blob of its own.
    pub(super) config_digest: Option<Digest>,
    /// `None` when everything is here.
    pub(super) source: Option<Source>,
    pub(super) unreachable: Option<String>,
    /// Held since its documents were written, until there is a lease on them.
    pub(super) gate: Option<Gate>,
}

impl Store {
    /// What `reference` means on this machine now. Manifest and configuration are fetched where they are not here;
    /// no layer is.
    ///
    /// # Errors
    /// Any of [`Error`] but those of unpacking.
    pub async fn resolve(&self, reference: &ImageReference, options: &Options) -> Result<Resolved> {
        if let ImageReference::DockerDaemon { name } = reference {
            return self.resolve_in_daemon(name, &reference.to_string(), options).await;
        }
        let located = self.find(reference, options, &|_| {}).await?;
        let cached = located.source.is_none() || self.is_complete(&located.known, &located.config);
        Ok(Resolved { digest: located.known.digest.to_string(), cached, unreachable: located.unreachable })
    }

    /// Makes everything of an image be here: fetched, verified and unpacked. What is here already is not touched,
    /// and a cached image costs a few file reads.
    ///
    /// May be dropped at any time: work stops soon, and what was half made is removed. Several calls, in one process
    /// or in many, may want the same image; in one process a layer is fetched once.
    ///
    /// # Errors
    /// Any of [`Error`]; then the store is as it was, but for layers that became whole.
    pub async fn ensure(&self, reference: &ImageReference, options: &Options, progress: Listener<'_>) -> Result<Image> {
        progress(Progress::Resolving);
        let (located, lease) = loop {
            let mut located = self.find(reference, options, progress).await?;
            let lease = self.lease_of(&located)?;
            drop(located.gate.take());
            // What was here and counted on may have been pruned before the lease: then it is looked for again.
            if located.source.is_some() || self.is_complete(&located.known, &located.config) {
                break (located, lease);
            }
        };
        if let Some(reason) = &located.unreachable {
            progress(Progress::UsingCached { reason: reason.clone() });
        }
        progress(Progress::Resolved { digest: located.known.digest.to_string() });
        if let Some(source) = &located.source {
            if !self.is_complete(&located.known, &located.config) {
                self.fetch_layers(&located, source, progress).await?;
                source.said().into_iter().for_each(|what| progress(Progress::Asking { what }));
            }
            self.name(&located.reference, &located.known)?;
        }
        progress(Progress::Ready);
        Ok(self.image(located, lease))
    }

    pub(super) fn lease_of(&self, located: &Located) -> Result<Lease> {
        let chain = Digest::chain(located.config.diff_ids());
        let documents = [&located.known.document].into_iter().chain(&located.config_digest);
        self.lease(documents.chain(&chain))
    }

    /// Remembers that `reference` means what `pinned`, which is complete, means: a tag that was resolved before its
    /// digest was fetched is found again without its registry.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::StoreNotWritable`], [`Error::Store`].
    pub fn name_as(&self, reference: &ImageReference, pinned: &ImageReference) -> Result<()> {
        match self.known(&pinned.to_string(), &Platform::host()) {
            Some(known) => self.name(&reference.to_string(), &known),
            None => Ok(()),
        }
    }

    pub(super) fn name(&self, reference: &str, known: &Known) -> Result<()> {
        let platform = Platform::host();
        if self.known(reference, &platform).as_ref() == Some(known) {
            return Ok(());
        }
        match self.session().and_then(|session| self.remember(&session, reference, &platform, known)) {
            // What is on a read-only file system can be used; it goes by the names that it has.
            Err(Error::StoreNotWritable { .. }) => Ok(()),
            named => named,
        }
    }

    /// The documents of an image: from the store where policy and contents allow it, else from its source.
    pub(super) async fn find(
        &self,
        reference: &ImageReference,
        options: &Options,
        progress: Listener<'_>,
    ) -> Result<Located> {
        let text = reference.to_string();
        match reference {
            ImageReference::Registry(registry) => self.find_in_registry(registry, text, options, progress).await,
            ImageReference::OciDir { path, tag } => {
                let layout = Layout::folder(path, tag.as_deref(), &text);
                self.find_in_layout(layout, text).await
            }
            ImageReference::OciArchive { path, tag } => {
                let (path, tag, name) = (path.clone(), tag.clone(), text.clone());
                let layout = blocking(move || Layout::archive(&path, tag.as_deref(), &name)).await?;
                self.find_in_layout(layout, text).await
            }
            ImageReference::DockerArchive { path, reference } => {
                let place = Place::named(&text);
                let archive = self.open_archive(Path::new(path), reference.as_deref(), place, None).await?;
                self.find_in_archive(archive, text, None)
            }
            ImageReference::DockerDaemon { name } => self.find_in_daemon(name, text, options, progress).await,
        }
    }

    async fn find_in_registry(
        &self,
        wanted: &RegistryReference,
        text: String,
        options: &Options,
        progress: Listener<'_>,
    ) -> Result<Located> {
        let platform = Platform::host();
        let place = Place::named(&text);
        // A digest names one image for ever; it may be here under another name.
        let pinned = wanted.digest.clone().and_then(|digest| Digest::try_from(digest).ok());
        let known = self.known(&text, &platform).map(|known| known.digest);
        let cached = [known, pinned].into_iter().flatten().find_map(|digest| self.cached(&text, digest, &place));
        let ask = wanted.digest.is_none()
            && match options.pull {
                PullPolicy::Auto => wanted.tag.as_deref() == Some("latest"),
                PullPolicy::Always => true,
                PullPolicy::IfNotPresent => false,
            };
        let cached = match cached {
            Some(cached) if !ask => return Ok(cached),
            cached => cached,
        };
        let registry = Registries::new(wanted, options)?;
        let tries = if cached.is_some() { TRIES_WHEN_CACHED } else { TRIES };
        let name = wanted.digest.as_ref().or(wanted.tag.as_ref()).map_or("latest", |name| name);
        match (registry.manifest(name, tries).await, cached) {
            (Ok((digest, bytes)), _) => {
                registry.said().into_iter().for_each(|what| progress(Progress::Asking { what }));
                let place = registry.place().clone();
                let source = Source::Registry(Box::new(registry));
                self.find_from(source, digest, bytes, text, &place).await
            }
            (Err(Error::Unreachable { place, url, why, attempts }), Some(cached)) => {
                let reason = Error::Unreachable { place, url, why, attempts }.to_string();
                Ok(Located { unreachable: Some(reason), ..cached })
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn find_in_layout(&self, layout: Layout, text: String) -> Result<Located> {
        let place = layout.place().clone();
        let candidates = layout.candidates()?;
        let chosen = choose(&candidates, &place)?.clone();
        let bytes = layout.small_blob(&chosen.digest, MANIFEST_MAX)?;
        self.find_from(Source::Layout(Box::new(layout)), chosen.digest, bytes, text, &place).await
    }

    /// Follows indexes down to this platform's manifest and fetches its configuration; both are kept.
    async fn find_from(
        &self,
        source: Source,
        mut digest: Digest,
        mut bytes: Vec<u8>,
        reference: String,
        place: &Place,
    ) -> Result<Located> {
        let mut indexes = 0;
        let manifest = loop {
            match Document::parse(&bytes, place)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(manifests) => {
                    indexes += 1;
                    if indexes > INDEXES_MAX {
                        let what = format!("its index leads through more than {INDEXES_MAX} indexes");
                        return Err(Error::Corrupt { place: Box::new(place.clone()), what });
                    }
                    let chosen = choose(&manifests, place)?;
                    bytes = match self.blob(&chosen.digest) {
                        Some(bytes) => bytes,
                        None => source.manifest(&chosen.digest).await?,
                    };
                    digest = chosen.digest.clone();
                }
            }
        };
        check_layers(&manifest, place)?;
        let config_bytes = match self.blob(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => source.config(&manifest.config).await?,
        };
        let config = ConfigDocument::parse(&config_bytes, place)?;
        check_config(manifest.layers.len(), &config, place)?;
        let gate = Some(self.gate(FlockOperation::LockShared)?);
        if self.blob(&digest).is_none() || self.blob(&manifest.config.digest).is_none() {
            let session = self.session()?;
            self.put_blob(&session, &manifest.config.digest, &config_bytes)?;
            self.put_blob(&session, &digest, &bytes)?;
        }
        let known = Known { digest: digest.clone(), document: digest };
        let config_digest = Some(manifest.config.digest);
        let (layers, source) = (manifest.layers, Some(source));
        Ok(Located { reference, known, layers, config, config_digest, source, unreachable: None, gate })
    }

    /// The image with this manifest, when all of it is here.
    fn cached(&self, reference: &str, digest: Digest, place: &Place) -> Option<Located> {
        let Document::Manifest(manifest) = Document::parse(&self.blob(&digest)?, place).ok()? else { return None };
        let config = ConfigDocument::parse(&self.blob(&manifest.config.digest)?, place).ok()?;
        check_config(manifest.layers.len(), &config, place).ok()?;
        let reference = reference.to_owned();
        let known = Known { digest: digest.clone(), document: digest };
        let config_digest = Some(manifest.config.digest);
        let located = Located {
            reference,
            known,
            layers: Vec::new(),
            config,
            config_digest,
            source: None,
            unreachable: None,
            gate: None,
        };
        self.is_complete(&located.known, &located.config).then_some(located)
    }

    pub(super) fn image(&self, located: Located, lease: Lease) -> Image {
        let chain = Digest::chain(located.config.diff_ids());
        Image {
            reference: located.reference,
            digest: located.known.digest.to_string(),
            layers: chain.iter().map(|chain_id| self.layer_dir(chain_id)).collect(),
            owners: chain.iter().map(|chain_id| self.owners_file(chain_id)).filter(|list| list.exists()).collect(),
            config: located.config.into_image_config(),
            lease,
        }
    }
}

impl Source {
    /// What there is to tell of where things came from.
    pub(super) fn said(&self) -> Vec<String> {
        match self {
            Source::Registry(registry) => registry.said(),
            Source::Layout(_) | Source::DockerArchive(_) => Vec::new(),
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        match self {
            Source::Registry(registry) => Ok(registry.manifest(&digest.to_string(), TRIES).await?.1),
            Source::Layout(layout) => layout.small_blob(digest, MANIFEST_MAX),
            Source::DockerArchive(archive) => Err(archive.has_no(digest)),
        }
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        match self {
            Source::Registry(registry) => registry.small_blob(descriptor, CONFIG_MAX).await,
            Source::Layout(layout) => layout.small_blob(&descriptor.digest, CONFIG_MAX),
            Source::DockerArchive(archive) => Err(archive.has_no(&descriptor.digest)),
        }
    }
}

/// The manifest of an index that this machine can run; one that names no platform is taken when no other fits, its
/// configuration will tell.
fn choose<'a>(manifests: &'a [Descriptor], place: &Place) -> Result<&'a Descriptor> {
    let host = Platform::host();
    if let Some(chosen) = host.choose(manifests) {
        return Ok(chosen);
    }
    if let Some(nameless) = manifests.iter().find(|manifest| manifest.platform.is_none()) {
        return Ok(nameless);
    }
    // Build attestations are kept under `unknown/unknown`.
    let platforms = manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).map(ToString::to_string);
    let mut available: Vec<String> = platforms.filter(|platform| !platform.starts_with("unknown/")).collect();
    available.dedup();
    Err(Error::PlatformMismatch { place: Box::new(place.clone()), wanted: host, available })
}

fn check_layers(manifest: &Manifest, place: &Place) -> Result<()> {
    const KNOWN: [&str; 6] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ];
    for layer in &manifest.layers {
        let kind = &layer.media_type;
        if KNOWN.contains(&&kind[..]) {
            continue;
        }
        let (what, hint) = if kind.contains("foreign") || kind.contains("nondistributable") {
            (
                "is kept outside the registry (a foreign layer, as Windows images have)",
                "use an image without such layers",
            )
        } else if kind.contains("encrypted") {
            ("is encrypted", "decrypt it into another image: skopeo copy --decryption-key …")
        } else {
            ("is not a layer of files; this is some other artifact", "check that the reference names a container image")
        };
        return Err(Error::Unsupported {
            place: Box::new(place.clone()),
            what: format!("its layer {} of type {kind:?} {what}", layer.digest),
            hint: hint.to_owned(),
        });
    }
    Ok(())
}

pub(super) fn check_config(layers: usize, config: &ConfigDocument, place: &Place) -> Result<()> {
    let host = Platform::host();
    let own = &config.platform;
    let differs = |own: &str, host: &str| !own.is_empty() && own != host;
    if differs(&own.os, &host.os) || differs(&own.architecture, &host.architecture) {
        let available = vec![own.to_string()];
        return Err(Error::PlatformMismatch { place: Box::new(place.clone()), wanted: host, available });
    }
    let diff_ids = config.diff_ids().len();
    if layers != diff_ids {
        let what = format!("its manifest has {layers} layers, its configuration {diff_ids}");
        return Err(Error::Corrupt { place: Box::new(place.clone()), what });
    }
    Ok(())
}

/// Runs `work` on a thread for blocking work; its panic goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(why) if why.is_panic() => std::panic::resume_unwind(why.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(Error::Cancelled),
    }
}
