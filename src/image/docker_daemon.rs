//! `docker-daemon:`: images of a running Docker engine, by its API (`GET /images/{name}/json`, `…/get`).
//!
//! An image is known by the ID that the engine gives it: the digest of its configuration, or with containerd's image
//! store that of its manifest or index. Asking for it costs one request; the image itself is fetched as an archive,
//! into a file, only where it is not in the store.

use super::digest::Digest;
use super::engine::{self, DEFAULT_HOST, Unreached, said};
use super::error::{Error, Place, Result};
use super::store::Session;
use bollard::Docker;
use bollard::errors::Error as EngineError;
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// The engine writes large images down before it sends their first byte.
const ANSWER: Duration = Duration::from_secs(600);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// An image as the engine tells of it. With containerd's image store it tells little of one that is for other machines alone:
/// less than bollard takes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    size: i64,
}

/// An engine and one of its images.
pub(super) struct DockerDaemon {
    engine: Docker,
    host: String,
    place: Place,
    /// The image's ID.
    pub(super) id: Digest,
    /// Its bytes, about: what its layers have uncompressed.
    pub(super) size: u64,
}

impl DockerDaemon {
    /// Asks the engine at `host` (an address of [`engine::connect`]) what the name means.
    pub(super) async fn find(name: &str, host: Option<&str>, reference: &str) -> Result<DockerDaemon> {
        let place = Place::named(reference);
        let host = host.unwrap_or(DEFAULT_HOST).to_owned();
        let unreachable =
            |why: String| Error::EngineUnreachable { reference: reference.to_owned(), host: host.clone(), why };
        let engine = engine::connect(&host, ANSWER).await.map_err(|why| match why {
            Unreached::Address { host } => engine::no_address(&host),
            Unreached::Certificates { host, why } => engine::no_certificates(&host, &why),
            Unreached::Unanswered { why } => unreachable(why),
        })?;
        let found = match engine.inspect_image(name).await {
            Ok(known) => Ok(Inspected { id: known.id.unwrap_or_default(), size: known.size.unwrap_or(0) }),
            Err(EngineError::JsonDataError { contents, .. }) => {
                serde_json::from_str(&contents).map_err(EngineError::from)
            }
            Err(why) => Err(why),
        };
        let found = found.map_err(|why| match why {
            EngineError::DockerResponseServerError { status_code: 404, message } => {
                let what = format!("the Docker engine at {host} has no such image ({message})");
                Error::NotFound { place: Box::new(place.clone()), what }
            }
            why => unreachable(said(&why)),
        })?;
        let id = Digest::try_from(found.id);
        let id = id.map_err(|what| Error::Corrupt { place: Box::new(place.clone()), what })?;
        let size = u64::try_from(found.size).unwrap_or(0);
        Ok(DockerDaemon { engine, host, place, id, size })
    }

    /// What errors about this image say of it.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Fetches the image as an archive of `docker save` into the session's folder; `arrived` hears of each piece.
    pub(super) async fn fetch(&self, session: &Session, arrived: &(dyn Fn(u64) + Send + Sync)) -> Result<PathBuf> {
        let path = session.dir.join("image.tar");
        let failed = |why| Error::store("write", &path, why).needing(self.size);
        let cut = |why: String| Error::EngineUnreachable {
            reference: self.place.reference.clone(),
            host: self.host.clone(),
            why,
        };
        let mut file = tokio::fs::File::create_new(&path).await.map_err(failed)?;
        // By its ID: the name may mean another image by now.
        let mut pieces = std::pin::pin!(self.engine.export_image(&self.id.to_string()));
        let mut first = true;
        loop {
            let patience = if first { ANSWER } else { READ_TIMEOUT };
            let piece = tokio::time::timeout(patience, pieces.next()).await;
            let piece = piece.map_err(|_| cut(format!("it sent nothing for {} s", patience.as_secs())))?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|why| match why {
                // With containerd's image store, of an image of several platforms any may be absent.
                EngineError::DockerResponseServerError { status_code: 404, message } => Error::NotFound {
                    place: Box::new(self.place.clone()),
                    what: format!(
                        "the Docker engine at {} does not have all of it for this machine ({message})",
                        self.host
                    ),
                },
                why => cut(said(&why)),
            })?;
            file.write_all(&piece).await.map_err(failed)?;
            arrived(piece.len() as u64);
            first = false;
        }
        file.flush().await.map_err(failed)?;
        Ok(path)
    }
}
