//! What is told while a deploy is under way.

use super::plan::{Action, Plan};
use crate::preflight;
use serde::Serialize;
use std::sync::Arc;

/// A step, as JSON `{type, …}`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The checks are through; comes first.
    Preflight { report: preflight::Report },
    /// Another process is changing the same deployment; this one waits for it.
    Waiting { message: String },
    /// What is going to be done. Comes once, before the first change.
    Plan { plan: Plan },
    /// How far an image is.
    Image {
        /// The daemon that it is for.
        id: String,
        image: String,
        phase: ImagePhase,
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Bytes that have arrived, of `totalBytes`; while downloading.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        total_bytes: Option<u64>,
        /// Why something other than the plain thing happens.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A resource has come to a new state.
    Resource {
        id: String,
        action: Action,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

/// Where an image is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ImagePhase {
    /// The registry is asked what the reference means.
    Resolving,
    /// Layers arrive.
    Downloading,
    /// Layers are unpacked.
    Unpacking,
    /// All is here.
    Ready,
}

impl ImagePhase {
    /// As in "it was … the image".
    pub fn in_words(self) -> &'static str {
        match self {
            ImagePhase::Resolving => "resolving",
            ImagePhase::Downloading => "downloading",
            ImagePhase::Unpacking => "unpacking",
            ImagePhase::Ready => "done with",
        }
    }
}

/// Whoever listens. Cheap to clone; called from any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Events go to `listener`.
    pub fn new(listener: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Events(Arc::new(listener))
    }

    /// Nobody listens.
    pub fn ignored() -> Self {
        Events::new(drop)
    }

    /// Tells it.
    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    /// Tells that a resource has come to `state`.
    pub fn resource(&self, id: &str, action: Action, state: &'static str, message: Option<String>) {
        self.tell(Event::Resource { id: id.to_owned(), action, state, message });
    }
}
