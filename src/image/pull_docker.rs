//! The way from `docker-archive:` and `docker-daemon:` to a configuration and layers; see `pull`.

use super::digest::Digest;
use super::docker_archive::DockerArchive;
use super::docker_daemon::DockerDaemon;
use super::error::{Error, Place, Result};
use super::layers::{Arrivals, CancelOnDrop};
use super::manifest::ConfigDocument;
use super::platform::Platform;
use super::pull::{Listener, Located, Source, blocking, check_config};
use super::store::{Known, Session, Store};
use super::{Options, Resolved};
use rustix::fs::FlockOperation;
use std::path::Path;
use std::sync::Arc;

impl Store {
    pub(super) async fn open_archive(
        &self,
        path: &Path,
        wanted: Option<&str>,
        place: Place,
        session: Option<Arc<Session>>,
    ) -> Result<DockerArchive> {
        let (store, path, wanted) = (self.clone(), path.to_owned(), wanted.map(str::to_owned));
        let cancelled = CancelOnDrop::default();
        let flag = cancelled.0.clone();
        blocking(move || {
            let make = || store.session().map(Arc::new);
            DockerArchive::open(&path, wanted.as_deref(), place, store.limits(), &flag, session, make)
        })
        .await
    }

    /// The documents of an archive, which are kept; `id` is what the image is to be known by, if not by its own digest.
    pub(super) fn find_in_archive(
        &self,
        archive: DockerArchive,
        reference: String,
        id: Option<Digest>,
    ) -> Result<Located> {
        let document = Digest::of(&archive.config);
        let config = ConfigDocument::parse(&archive.config, archive.place())?;
        check_config(archive.layers(), &config, archive.place())?;
        let gate = Some(self.gate(FlockOperation::LockShared)?);
        if self.blob(&document).is_none() {
            self.put_blob(&self.session()?, &document, &archive.config)?;
        }
        let known = Known { digest: id.unwrap_or_else(|| document.clone()), document };
        let layers = archive.manifest(&config).layers;
        let source = Some(Source::DockerArchive(Box::new(archive)));
        Ok(Located { reference, known, layers, config, config_digest: None, source, unreachable: None, gate })
    }

    pub(super) async fn resolve_in_daemon(&self, name: &str, text: &str, options: &Options) -> Result<Resolved> {
        match self.ask_daemon(name, text, options).await? {
            Ok(daemon) => {
                let by_id = format!("docker-daemon:{}", daemon.id);
                let cached = self.cached_by_id(&by_id, daemon.place()).is_some();
                Ok(Resolved { digest: daemon.id.to_string(), cached, unreachable: None })
            }
            Err(Located { known, unreachable, .. }) => {
                Ok(Resolved { digest: known.digest.to_string(), cached: true, unreachable })
            }
        }
    }

    pub(super) async fn find_in_daemon(
        &self,
        name: &str,
        text: String,
        options: &Options,
        progress: Listener<'_>,
    ) -> Result<Located> {
        let place = Place::named(&text);
        // An ID names one image for ever.
        if name.starts_with("sha256:")
            && let Some(cached) = self.cached_by_id(&text, &place)
        {
            return Ok(cached);
        }
        let daemon = match self.ask_daemon(name, &text, options).await? {
            Ok(daemon) => daemon,
            Err(cached) => return Ok(cached),
        };
        let by_id = format!("docker-daemon:{}", daemon.id);
        if let Some(cached) = self.cached_by_id(&by_id, &place) {
            self.name(&text, &cached.known)?;
            return Ok(Located { reference: text, ..cached });
        }
        let session = Arc::new(self.session()?);
        let (store, needed) = (self.clone(), daemon.size.saturating_mul(2));
        blocking(move || store.check_room(needed)).await?;
        let arrivals = Arrivals::new(daemon.size, progress);
        let path = daemon.fetch(&session, &|bytes| arrivals.add(bytes)).await?;
        let archive = self.open_archive(&path, None, place.clone(), Some(session)).await?;
        let id = &daemon.id;
        if Digest::of(&archive.config) != *id && !archive.also_known_as.contains(id) {
            let what = format!("the Docker engine sent another image than {id}");
            return Err(Error::Corrupt { place: Box::new(place), what });
        }
        self.find_in_archive(archive, text, Some(daemon.id))
    }

    /// The engine's image; or, where the engine cannot be reached, the one that is known here by that name.
    async fn ask_daemon(
        &self,
        name: &str,
        text: &str,
        options: &Options,
    ) -> Result<std::result::Result<DockerDaemon, Located>> {
        match DockerDaemon::find(name, options.docker_host.as_deref(), text).await {
            Err(error @ Error::EngineUnreachable { .. }) => {
                let Some(cached) = self.cached_by_id(text, &Place::named(text)) else { return Err(error) };
                Ok(Err(Located { unreachable: Some(error.to_string()), ..cached }))
            }
            found => found.map(Ok),
        }
    }

    /// An image that is known by its configuration, when all of it is here.
    fn cached_by_id(&self, reference: &str, place: &Place) -> Option<Located> {
        let known = self.known(reference, &Platform::host())?;
        let config = ConfigDocument::parse(&self.blob(&known.document)?, place).ok()?;
        let reference = reference.to_owned();
        let located = Located {
            reference,
            known,
            layers: Vec::new(),
            config,
            config_digest: None,
            source: None,
            unreachable: None,
            gate: None,
        };
        self.is_complete(&located.known, &located.config).then_some(located)
    }
}
