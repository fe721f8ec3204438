//! What is told of images that a place keeps for its daemons.

use serde::Serialize;

/// All images that are kept.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageList {
    /// Sorted by reference.
    pub images: Vec<ImageInfo>,
    /// Bytes on disk of everything, each layer counted once.
    pub total_bytes: u64,
}

/// One image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// The names that it was fetched by.
    pub references: Vec<String>,
    /// `sha256:…`, as a plan shows it.
    pub digest: String,
    /// Bytes on disk of its layers, of which other images may have some too.
    pub bytes: u64,
    /// The daemons that run it, or may go back to it.
    pub used_by: Vec<ImageUse>,
}

/// A daemon that uses an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ImageUse {
    pub deployment: String,
    pub daemon: String,
}

/// What a prune has removed, or would.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneReport {
    pub dry_run: bool,
    /// Images that are gone.
    pub images: Vec<ImageInfo>,
    /// How many layers went.
    pub layers: usize,
    /// How many writable tops of former versions went.
    pub tops: usize,
    /// How many helper programs of other versions of the package went.
    pub helpers: usize,
    /// Bytes on disk that this freed.
    pub freed_bytes: u64,
}
