//! References become unpacked layers: registries and layouts, the content-addressed store, unpacking.
//!
//! ```text
//! mod        what callers see
//! pull       the way from a reference to its documents; pull_docker: that of Docker's transports
//! layers     downloads and unpacking of one image's layers, side by side and in order
//! partial    a blob on its way to disk, which a later process may go on with
//! registry   the distribution protocol: requests, authorisation, downloads that go on where they were cut
//! layout     image layouts in folders and archives
//! archive    tar files, read where they lie
//! docker_archive, docker_daemon    what `docker save` writes, and images of a running engine
//! engine     reaching a container engine            export     an image as an archive that one loads
//! made       an image that is made here, of one program
//! unpack     a compressed layer becomes a directory that overlayfs can stack; hostile input
//! store      what is kept, and how processes share it
//! lease      what a running call needs is not pruned          prune, usage   what goes, and what there is
//! manifest   the documents of an image          platform   which of them this machine can run
//! digest     sha256                             error      what can go wrong
//! ```
//!
//! A layer is downloaded to a file first and unpacked from there, rather than unpacked while it arrives. So a cut
//! download goes on where it was, a slow disk does not hold a connection open, and no decoder sees a byte of a blob
//! before the blob's digest is known to be right. The price, one more pass through the page cache, is small next to
//! decompression. Downloads run side by side, up to [`DOWNLOADS`] over all images of a store; unpacking goes from the
//! lowest layer up, one at a time, while those above still arrive. The compressed file is deleted when its layer is unpacked.
//!
//! This floor knows no daemon and reads no environment variable: everything comes in by [`Options`].

mod archive;
mod digest;
mod docker_archive;
mod docker_daemon;
pub mod engine;
mod error;
mod export;
mod layers;
mod layout;
mod lease;
mod made;
mod manifest;
mod partial;
mod platform;
mod prune;
mod pull;
mod pull_docker;
mod registry;
mod store;
mod sync;
mod unpack;
mod usage;

pub use error::{Error, Place};
pub use export::Export;
pub use layers::turn_at;
pub use lease::Lease;
pub use made::{Made, Program};
pub use manifest::ImageConfig;
pub use platform::Platform;
pub use prune::{InUse, Pruned};
pub use store::{DOWNLOADS, Store, StoreOptions};
pub use unpack::Limits;
pub use usage::{Kept, bytes_below};

use crate::error::Report;
use registry::credentials::Credential;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where images come from, as the engine's options say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    /// What is special about a registry, by host with optional port, as it stands in references (`docker.io`).
    pub registries: BTreeMap<String, RegistryOptions>,
    /// A Docker `config.json` or Podman `auth.json` with credentials. One that is not there is an empty one.
    pub docker_config: Option<PathBuf>,
    /// When a registry is asked about an image that is here already.
    pub pull: PullPolicy,
    /// Where a Docker engine listens, as in `DOCKER_HOST`: `unix:///PATH` or `tcp://HOST:PORT`. `None` means
    /// `unix:///var/run/docker.sock`.
    pub docker_host: Option<String>,
}

/// What is special about one registry. Its `Debug` does not show the password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryOptions {
    /// URLs that are asked before the registry, in this order, each perhaps with a path prefix; plain HTTP only to
    /// loopback or with [`RegistryOptions::insecure`]. One that does not answer, or answers 404 or 5xx, is followed by
    /// the next, and the last by the registry itself. Credentials of the registry are not sent to a mirror on another
    /// host, which has its own under its own host.
    pub mirrors: Vec<String>,
    /// Whether the registry is asked over plain HTTP. A loopback one always is, unless it has a CA file.
    pub insecure: bool,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// With `password`: who to be, before the credentials file is asked.
    pub username: Option<String>,
    /// The password or access token.
    pub password: Option<String>,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RegistryOptions { mirrors, insecure, ca_file, username, password } = self;
        f.debug_struct("RegistryOptions")
            .field("mirrors", mirrors)
            .field("insecure", insecure)
            .field("ca_file", ca_file)
            .field("username", username)
            .field("password", &password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// When a registry is asked about an image that is here already; Kubernetes' `imagePullPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Always for the tag `latest`, only when it is missing for all others.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Always; what is here is used when the registry cannot be reached.
    #[serde(rename = "always")]
    Always,
    /// Only when it is missing.
    #[serde(rename = "missing")]
    IfNotPresent,
}

/// What a reference means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// `sha256:…` of the manifest for this machine's platform; for `docker-archive:` and `docker-daemon:` the image ID.
    pub digest: String,
    /// Whether all of the image is in the store.
    pub cached: bool,
    /// Why the registry's answer is missing, where what was here stands in for it.
    pub unreachable: Option<String>,
}

/// An image, ready to be stacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference in full.
    pub reference: String,
    /// `sha256:…`, as in [`Resolved::digest`].
    pub digest: String,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Unpacked directories, lowest first, all in [`Store::layers_dir`]; their names are 64 hex digits.
    pub layers: Vec<PathBuf>,
    /// Lists of owners, `UID GID PATH\0` records, for those layers that have one: `<layer>.owners` beside the layer.
    /// Layers that root unpacked have none, their files are owned as they should be.
    pub owners: Vec<PathBuf>,
    /// Keeps the layers in the store until whoever runs the image has written down that it does.
    pub lease: Lease,
}

/// The user name and password that a Docker configuration holds for a repository of `host`; `None` where it has none.
///
/// Blocking: a credential helper may be run.
///
/// # Errors
/// `REGISTRY_CREDENTIALS_UNUSABLE`, without any secret in it.
pub fn stored_password(file: &Path, host: &str, repository: &str) -> Result<Option<(String, String)>, Report> {
    let unusable = |why: String| Report::new("REGISTRY_CREDENTIALS_UNUSABLE", why).status(400).with("registry", host);
    match registry::credentials::from_file(file, host, repository).map_err(unusable)? {
        None => Ok(None),
        Some(Credential::Password { username, password }) => Ok(Some((username, password))),
        Some(Credential::IdentityToken(_)) => {
            let why =
                format!("{} holds an identity token for {host}, which a kubelet cannot pull with", file.display());
            Err(unusable(why).hint("give a user name and a password, or an access token as the password"))
        }
    }
}

/// What happens while an image is made ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The registry or layout is asked what the reference means.
    Resolving,
    /// It means the manifest with this digest.
    Resolved { digest: String },
    /// Bytes of compressed layers that have arrived, of all that are missing; at most 20 times a second.
    Downloading { bytes: u64, total_bytes: u64 },
    /// A layer is being unpacked, counted from 1.
    Unpacking { layer: usize, layers: usize },
    /// Which mirror is asked, or why none is.
    Asking { what: String },
    /// The registry could not be asked; what is here is used.
    UsingCached { reason: String },
    /// Everything is here.
    Ready,
}
