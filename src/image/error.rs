//! What can go wrong between a reference and its unpacked layers, in words for a person at 3 a.m.

use super::platform::Platform;
use crate::error::Report;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this floor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which image an error is about, and who was asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The reference in full, defaults filled in.
    pub reference: String,
    /// The registry of the reference; empty for an image in a folder or a file.
    pub registry: String,
    /// The repository of the reference; empty for an image in a folder or a file.
    pub repository: String,
    /// The tag, where the reference has one.
    pub tag: Option<String>,
    /// The digest, where the reference has one.
    pub digest: Option<String>,
    /// The URL that was asked in place of the registry, where that is a mirror.
    pub mirror: Option<String>,
}

impl Place {
    /// That of an image in a folder, a file or an engine, which has no more than its name.
    pub fn named(reference: &str) -> Place {
        Place { reference: reference.to_owned(), ..Place::default() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reference)?;
        if !self.registry.is_empty() {
            write!(f, " (registry {}", self.registry)?;
            if let Some(mirror) = &self.mirror {
                write!(f, " through its mirror {mirror}")?;
            }
            write!(f, ", repository {}", self.repository)?;
            if let Some(tag) = &self.tag {
                write!(f, ", tag {tag}")?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry (404), the folder or the file was read, and the image or one of its blobs is not in it.
    #[error("the image {place} does not exist: {what}")]
    NotFound { place: Box<Place>, what: String },
    /// The registry answered 401 or 403, with or without credentials. Registries answer the same for a
    /// repository that does not exist.
    #[error("the image {place} may not be read: {who} answered {status}{}", if *.with_credentials { " to the credentials it was given" } else { ", and no credentials are known for it" })]
    Unauthorized { place: Box<Place>, who: String, status: u16, with_credentials: bool },
    /// No answer worth the name after all tries: refused, cut, timed out, no such host, bad certificate, 5xx.
    #[error("the registry cannot be reached for {place}: {why} ({attempts} {})", if *.attempts == 1 { "try" } else { "tries" })]
    Unreachable { place: Box<Place>, url: String, why: String, attempts: u32 },
    /// What arrived is not what its digest, size or format says.
    #[error("the image {place} is corrupt: {what}")]
    Corrupt { place: Box<Place>, what: String },
    /// The registry does not take an image.
    #[error("the image {place} cannot be pushed: {why}")]
    NotPushed { place: Box<Place>, why: String },
    /// The image exists, for other platforms only.
    #[error("the image {place} is not made for {wanted}; it is made for {}", available.join(", "))]
    PlatformMismatch { place: Box<Place>, wanted: Platform, available: Vec<String> },
    /// A layer holds what no honest image holds: a path out of the image, a bomb, a forged whiteout.
    #[error("the image {place} is unsafe, its layer {layer} was refused: {entry}: {why}")]
    Unsafe { place: Box<Place>, layer: String, entry: String, why: String },
    /// The image is of a kind that this library does not read (schema 1, foreign or encrypted layers).
    #[error("the image {place} cannot be used: {what}")]
    Unsupported { place: Box<Place>, what: String, hint: String },
    /// No Docker engine answers where one should.
    #[error("no Docker engine answers at {host} for {reference}: {why}")]
    EngineUnreachable { reference: String, host: String, why: String },
    /// An option, a credentials file or a credential helper is wrong.
    #[error("{what}")]
    Options { what: String, hint: String },
    /// The disk (or the quota) of the store is full, or too small for what is about to be fetched.
    #[error("the image store is full: {} {}{}", path.display(), needed.map_or("could not be written".to_owned(), |n| format!("needs {n} bytes")), free.map_or(String::new(), |n| format!(", {n} are free")))]
    StoreFull { path: PathBuf, needed: Option<u64>, free: Option<u64> },
    /// What is about to be fetched would make the store larger than it may be.
    #[error("the image store {} may have {limit} bytes: it has {used}, and {needed} more are needed", path.display())]
    StoreOverLimit { path: PathBuf, needed: u64, used: u64, limit: u64 },
    /// The store's folder may not be written, or is on a read-only file system.
    #[error("the image store cannot be written: {}: {why}", path.display())]
    StoreNotWritable { path: PathBuf, why: String },
    /// The store's file system failed in another way.
    #[error("the image store failed to {doing} {}: {source}", path.display())]
    Store { doing: &'static str, path: PathBuf, source: io::Error },
    /// The caller let go of the call.
    #[error("fetching the image was cancelled")]
    Cancelled,
}

impl Error {
    /// The error for a failed system call on the store: full and not writable are told apart from the rest.
    pub(super) fn store(doing: &'static str, path: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::StoreFull { path: path.to_owned(), needed: None, free: None }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::StoreNotWritable { path: path.to_owned(), why: source.to_string() }
            }
            _ => Error::Store { doing, path: path.to_owned(), source },
        }
    }

    /// The same error, with the bytes that were about to be written where it says that the disk is full.
    pub(super) fn needing(mut self, bytes: u64) -> Error {
        if let Error::StoreFull { needed, .. } = &mut self {
            *needed = Some(bytes);
        }
        self
    }

    /// The stable code of this error, as in [`Report::code`].
    pub fn code(&self) -> &'static str {
        match self {
            Error::NotFound { .. } => "IMAGE_NOT_FOUND",
            Error::Unauthorized { .. } => "IMAGE_UNAUTHORIZED",
            Error::Unreachable { .. } => "REGISTRY_UNREACHABLE",
            Error::Corrupt { .. } => "IMAGE_CORRUPT",
            Error::NotPushed { .. } => "IMAGE_NOT_PUSHED",
            Error::PlatformMismatch { .. } => "IMAGE_PLATFORM_MISMATCH",
            Error::Unsafe { .. } => "IMAGE_UNSAFE",
            Error::Unsupported { .. } => "IMAGE_UNSUPPORTED",
            Error::EngineUnreachable { .. } => "DOCKER_UNREACHABLE",
            Error::Options { .. } => "IMAGE_OPTIONS_INVALID",
            Error::StoreFull { .. } => "STORE_FULL",
            Error::StoreOverLimit { .. } => "STORE_OVER_LIMIT",
            Error::StoreNotWritable { .. } => "STORE_NOT_WRITABLE",
            Error::Store { .. } => "STORE_FAILED",
            Error::Cancelled => "CANCELLED",
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Error::NotFound { place, .. }
            | Error::Unauthorized { place, .. }
            | Error::Unreachable { place, .. }
            | Error::Corrupt { place, .. }
            | Error::NotPushed { place, .. }
            | Error::PlatformMismatch { place, .. }
            | Error::Unsafe { place, .. }
            | Error::Unsupported { place, .. } => Some(place),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NotFound { place, .. } if place.reference.starts_with("docker-daemon:") => {
                "look at what there is: docker images --digests".to_owned()
            }
            Error::NotFound { place, .. } if place.registry.is_empty() => {
                format!("look at what there is: skopeo inspect {}", place.reference)
            }
            Error::NotFound { .. } => "check the name and the tag, and that the image was pushed".to_owned(),
            Error::Unauthorized { place, with_credentials: true, .. } => format!(
                "check that the image exists and that the account may pull it; `docker login {}` renews a password",
                place.registry
            ),
            Error::Unauthorized { place, .. } => {
                format!("check the name; for a private image run `docker login {}` or give credentials", place.registry)
            }
            Error::Unreachable { place, url, .. } => match &place.mirror {
                Some(_) => format!("check that the mirror runs: curl -I {url}"),
                None => format!("check the network and the registry: curl -I {url}"),
            },
            Error::Corrupt { .. } => "push the image again; if it persists, something between here and there changes \
                 what is sent"
                .to_owned(),
            Error::NotPushed { place, .. } => format!(
                "check the name, and that the account may push there; `docker login {}` renews a password",
                place.registry
            ),
            Error::PlatformMismatch { wanted, .. } => {
                format!("build and push the image for {wanted} too: docker buildx build --platform {wanted} …")
            }
            Error::Unsafe { .. } => "do not run this image; rebuild it from a source you trust".to_owned(),
            Error::Unsupported { hint, .. } | Error::Options { hint, .. } => hint.clone(),
            Error::EngineUnreachable { why, .. } if why.contains("ermission denied") => {
                "deploy as a member of the socket's group: sudo usermod -aG docker $USER, then log in again".to_owned()
            }
            Error::EngineUnreachable { .. } => "start it (sudo systemctl start docker), say where it listens with \
                 DOCKER_HOST=unix:///PATH, or use the image from a registry or a docker-archive:FILE"
                .to_owned(),
            Error::StoreFull { .. } => {
                "remove unused images (alien prune), free space on that disk, or move the state directory to a larger one"
                    .to_owned()
            }
            Error::StoreOverLimit { .. } => {
                "remove unused images (alien prune), or raise the limit: --store-limit (storeMaxBytes)".to_owned()
            }
            Error::StoreNotWritable { path, .. } => {
                format!("make it writable for this user, or choose another state directory: ls -ld {}", path.display())
            }
            Error::Store { .. } | Error::Cancelled => return None,
        })
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Report {
        let mut report = Report::new(error.code(), error.to_string());
        if let Some(hint) = error.hint() {
            report = report.hint(hint);
        }
        if let Some(place) = error.place() {
            report = report.with("image", place.reference.clone());
            if !place.registry.is_empty() {
                report = report.with("registry", place.registry.clone()).with("repository", place.repository.clone());
            }
            for (key, value) in [("tag", &place.tag), ("digest", &place.digest), ("mirror", &place.mirror)] {
                if let Some(value) = value {
                    report = report.with(key, value.clone());
                }
            }
        }
        match error {
            Error::NotFound { .. } => report.status(404),
            Error::Unauthorized { status, .. } => report.with("status", status),
            Error::Unreachable { url, attempts, .. } => {
                report.with("url", url).with("attempts", attempts).status(503).retryable()
            }
            Error::PlatformMismatch { wanted, available, .. } => {
                report.with("platform", wanted.to_string()).with("available", available)
            }
            Error::Unsafe { layer, entry, .. } => report.with("layer", layer).with("path", entry),
            Error::StoreFull { path, needed, free } => {
                let report = report.with("path", path.display().to_string()).status(507).retryable();
                let report = if let Some(needed) = needed { report.with("neededBytes", needed) } else { report };
                if let Some(free) = free { report.with("freeBytes", free) } else { report }
            }
            Error::StoreOverLimit { path, needed, used, limit } => report
                .with("path", path.display().to_string())
                .with("neededBytes", needed)
                .with("usedBytes", used)
                .with("limitBytes", limit)
                .status(507),
            Error::StoreNotWritable { path, .. } | Error::Store { path, .. } => {
                report.with("path", path.display().to_string())
            }
            Error::EngineUnreachable { host, .. } => report.with("dockerHost", host).status(503).retryable(),
            Error::Cancelled => report.status(499),
            Error::Corrupt { .. } | Error::NotPushed { .. } | Error::Unsupported { .. } | Error::Options { .. } => {
                report
            }
        }
    }
}
