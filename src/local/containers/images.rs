//! Images on their way into the engine, and out of it.

use super::engine::{Engine, PATIENCE, status};
use super::names::{IMAGES, image};
use crate::engine::event::Events;
use crate::error::Report;
use crate::image::{self as images, Export, Image, Store, StoreOptions};
use crate::local::fetch::{image_reference, pinned, told};
use crate::local::layout::{Layout, make_dir, unusable};
use crate::supervisor::spec;
use bollard::body_try_stream;
use bollard::errors::Error;
use bollard::query_parameters::{ImportImageOptions, ListImagesOptions, RemoveImageOptions};
use futures_util::StreamExt;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// An engine may take long over what is large.
const LOADING: Duration = Duration::from_secs(1800);

/// The way of images from registries and files into an engine.
pub struct Images {
    store: Store,
    options: images::Options,
}

impl Images {
    /// Finds out which images the engine has from us.
    pub async fn open(
        engine: &Engine,
        layout: &Layout,
        store: StoreOptions,
        options: images::Options,
    ) -> Result<Images, Report> {
        let list = engine.docker.list_images(None::<ListImagesOptions>);
        let all = engine.ask("list its images", list).await?;
        let prefix = format!("{IMAGES}:");
        let tags = all.into_iter().flat_map(|one| one.repo_tags);
        let held: HashSet<String> =
            tags.filter_map(|tag| Some(format!("sha256:{}", tag.strip_prefix(&prefix)?))).collect();
        make_dir(&layout.engine())?;
        let dir = layout.engine().join("images");
        let open = move || Store::open_beside(&dir, store, held);
        let store =
            tokio::task::spawn_blocking(open).await.map_err(|error| Report::new("INTERNAL", error.to_string()))??;
        Ok(Images { store, options })
    }

    /// Where images' documents are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Sees to it that the engine has an image, which was `declared` so and means `digest`.
    ///
    /// # Errors
    /// Those of fetching it, which are the same whatever daemons run under; `ENGINE_UNREACHABLE`, `ENGINE_REFUSED`.
    pub async fn ensure(
        &self,
        engine: &Engine,
        (id, declared, digest): (&str, &str, &str),
        events: &Events,
    ) -> Result<Image, Report> {
        // What several daemons have is fetched and loaded for the first of them.
        let turn = images::turn_at(self.store.dir().join(digest));
        let _turn = turn.lock().await;
        let meant = image_reference(declared)?;
        let reference = pinned(meant.clone(), digest);
        let progress = told(id, declared, digest, events);
        let export = self.store.export(&reference, &self.options, image, &progress).await?;
        if let Some(archive) = export.archive() {
            load(engine, archive, &export).await?;
        }
        self.store.loaded(&export)?;
        self.store.name_as(&meant, &reference)?;
        progress(images::Progress::Ready);
        Ok(export.image)
    }

    /// The same for an image that turned out to be gone from the engine, which somebody has cleared up.
    pub async fn ensure_again(&self, engine: &Engine, what: (&str, &str, &str)) -> Result<(), Report> {
        self.store.unloaded(what.2);
        self.ensure(engine, what, &Events::ignored()).await.map(drop)
    }

    /// Takes an image out of the engine that no daemon of this state directory needs. What others use stays: engines
    /// keep an image as long as a container has it.
    pub async fn drop_unused(&self, engine: &Engine, layout: &Layout, digest: &str) {
        if digest.is_empty() || in_use(layout).contains(digest) {
            return;
        }
        let options = RemoveImageOptions::default();
        let name = image(digest);
        let call = engine.docker.remove_image(&name, Some(options), None);
        // Where it is used, or was not there, all is well.
        if engine.try_to(call).await.is_ok() {
            self.store.unloaded(digest);
            let _ = self.store.forget_image(digest);
        }
    }
}

async fn load(engine: &Engine, archive: &Path, export: &Export) -> Result<(), Report> {
    let doing = format!("load the image {}", export.image.reference);
    let file = tokio::fs::File::open(archive).await.map_err(|error| unusable(archive, &error))?;
    let pieces = ReaderStream::with_capacity(file, 256 * 1024);
    let docker = engine.patient(LOADING.saturating_sub(PATIENCE));
    let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
    let mut answers = std::pin::pin!(docker.import_image(options, body_try_stream(pieces), None));
    let mut failure = None;
    let reading = async {
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(info) => failure = info.error_detail.and_then(|detail| detail.message).or(failure.take()),
                // What engines say of progress differs; that the image is there is looked at below.
                Err(Error::JsonDataError { .. }) => {}
                // Another process may have loaded the same at the same time, which containerd's image store takes for a mistake.
                Err(
                    Error::DockerStreamError { error: why } | Error::DockerResponseServerError { message: why, .. },
                ) => {
                    failure = Some(why);
                    break;
                }
                Err(error) => return Err(engine.report(&doing, &error)),
            }
        }
        Ok(())
    };
    tokio::time::timeout(LOADING, reading)
        .await
        .unwrap_or_else(|_| Err(engine.report(&doing, &Error::RequestTimeoutError)))?;
    let name = image(&export.image.digest);
    match engine.try_to(engine.docker.inspect_image(&name)).await {
        Ok(_) => Ok(()),
        Err(error) if status(&error) == Some(404) => {
            let why = failure.unwrap_or_else(|| "it was taken, and is not there".to_owned());
            Err(engine.report(&doing, &Error::DockerStreamError { error: why }))
        }
        Err(error) => Err(engine.report(&doing, &error)),
    }
}

/// The images that versions of this state directory's daemons have: those that run, are to come, or may come back.
fn in_use(layout: &Layout) -> HashSet<String> {
    let mut digests = HashSet::new();
    for name in crate::local::deployment::names(layout) {
        for id in crate::local::deployment::entry_names(&layout.containers(&name)) {
            let dir = layout.containers(&name).join(id);
            for file in [spec::CURRENT, spec::NEXT, spec::PREVIOUS] {
                digests.extend(spec::read::<spec::Document>(&dir.join(file)).ok().map(|document| document.run.digest));
            }
        }
    }
    digests
}
