//! A stack's images: what they mean now, and their way into the store.

use super::layout::unusable;
use super::{Local, Machine};
use crate::engine;
use crate::engine::event::{Event, Events, ImagePhase};
use crate::error::Report;
use crate::image::{Image, Progress, Store};
use crate::model::{Code, Daemon, ImageReference, RegistryReference, Stack};
use crate::sandbox::ids::Ids;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::pin::Pin;

/// How many registries are asked at once what an image means.
const RESOLVED_AT_ONCE: usize = 8;

impl Local {
    /// Fetches and unpacks what is not here yet.
    pub(super) async fn fetch(
        &self,
        machine: &Machine,
        daemon: &Daemon,
        digest: &str,
        events: &Events,
    ) -> Result<Image, Report> {
        let declared = declared_image(daemon)?;
        let meant = image_reference(declared)?;
        let reference = pinned(meant.clone(), digest);
        let progress = told(&daemon.id, declared, digest, events);
        let image = machine.store.ensure(&reference, &self.options.images, &progress).await?;
        machine.store.name_as(&meant, &reference)?;
        self.own(machine, &image).await?;
        Ok(image)
    }

    /// What the stack's images mean now. Each is asked for once, several at a time; all that fail are one error.
    pub(super) async fn resolve<'s>(
        &self,
        store: &Store,
        deployment: &str,
        stack: &'s Stack,
    ) -> Result<BTreeMap<&'s str, String>, Report> {
        let mut images: BTreeMap<&str, &str> = BTreeMap::new();
        for daemon in stack.daemons() {
            images.entry(declared_image(daemon)?).or_insert(&daemon.id);
        }
        let mut asked: Vec<Answer<'_, 's>> = Vec::new();
        for (image, daemon) in images {
            asked.push(Box::pin(async move {
                let resolved = async {
                    let reference = image_reference(image)?;
                    Ok(store.resolve(&reference, &self.options.images).await?.digest)
                };
                (
                    image,
                    resolved.await.map_err(|error: Report| error.with("daemon", daemon).with("deployment", deployment)),
                )
            }));
        }
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(RESOLVED_AT_ONCE).collect().await;
        let mut digests = BTreeMap::new();
        let mut results = Vec::new();
        for (image, answer) in answers {
            results.push(answer.map(|digest| drop(digests.insert(image, digest))));
        }
        engine::all_of("resolve", deployment, results)?;
        Ok(digests)
    }

    /// With subordinate ids the image's files can belong to whom the image says. Done once for each layer.
    async fn own(&self, machine: &Machine, image: &Image) -> Result<(), Report> {
        if !matches!(self.ids, Ids::Subordinate { .. }) {
            return Ok(());
        }
        for list in &image.owners {
            let (layer, done) = (list.with_extension(""), list.with_extension("owned"));
            if !done.exists() {
                let (helper, list, ids) = (machine.helper.clone(), list.clone(), self.ids.clone());
                let own = move || {
                    helper.own(&list, &layer, &ids)?;
                    std::fs::write(&done, "").map_err(|error| unusable(&done, &error))
                };
                tokio::task::spawn_blocking(own)
                    .await
                    .map_err(|error| Report::new("INTERNAL", error.to_string()))??;
            }
        }
        Ok(())
    }
}

/// The image that a daemon runs from, as it was declared.
pub fn declared_image(daemon: &Daemon) -> Result<&str, Report> {
    match &daemon.code {
        Code::Image { image } => Ok(image),
        Code::Source { .. } => Err(Report::new("SOURCE_NOT_SUPPORTED", "daemons run from images, not from source")),
    }
}

/// What was planned is what is fetched, also when the tag moves meanwhile.
pub fn pinned(reference: ImageReference, digest: &str) -> ImageReference {
    match reference {
        ImageReference::Registry(reference) => {
            ImageReference::Registry(RegistryReference { digest: Some(digest.to_owned()), ..reference })
        }
        ImageReference::DockerDaemon { .. } => ImageReference::DockerDaemon { name: digest.to_owned() },
        other => other,
    }
}

/// Tells of an image's way.
pub fn told<'a>(
    id: &'a str,
    image: &'a str,
    digest: &'a str,
    events: &'a Events,
) -> impl Fn(Progress) + Send + Sync + 'a {
    move |progress: Progress| {
        let told = |phase| ImageEvent { phase, digest: None, bytes: None, total_bytes: None, message: None };
        let event = match progress {
            Progress::Resolving => told(ImagePhase::Resolving),
            Progress::Resolved { digest } => ImageEvent { digest: Some(digest), ..told(ImagePhase::Resolving) },
            Progress::Downloading { bytes, total_bytes } => {
                ImageEvent { bytes: Some(bytes), total_bytes: Some(total_bytes), ..told(ImagePhase::Downloading) }
            }
            Progress::Unpacking { .. } => told(ImagePhase::Unpacking),
            Progress::Asking { what } => ImageEvent { message: Some(what), ..told(ImagePhase::Resolving) },
            Progress::UsingCached { reason } => ImageEvent { message: Some(reason), ..told(ImagePhase::Resolving) },
            Progress::Ready => ImageEvent { digest: Some(digest.to_owned()), ..told(ImagePhase::Ready) },
        };
        events.tell(event.of(id, image));
    }
}

pub fn image_reference(image: &str) -> Result<ImageReference, Report> {
    ImageReference::parse(image)
        .map_err(|why| Report::new("INVALID_IMAGE", format!("{image:?} is not an image reference: {why}")))
}

/// What an image means, on its way.
type Answer<'a, 's> = Pin<Box<dyn Future<Output = (&'s str, Result<String, Report>)> + Send + 'a>>;

struct ImageEvent {
    phase: ImagePhase,
    digest: Option<String>,
    bytes: Option<u64>,
    total_bytes: Option<u64>,
    message: Option<String>,
}

impl ImageEvent {
    fn of(self, id: &str, image: &str) -> Event {
        let ImageEvent { phase, digest, bytes, total_bytes, message } = self;
        Event::Image { id: id.to_owned(), image: image.to_owned(), phase, digest, bytes, total_bytes, message }
    }
}
