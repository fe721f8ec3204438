//! Storage, Kv, Queue and Vault, and what every resource shares.

use super::value::answer;
use crate::error::Report;
use crate::model::{Raw, Resource, ResourceType};
use napi_derive::napi;

/// A reference to a resource of the same stack.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct ResourceRef {
    #[napi(ts_type = "ResourceType")]
    pub r#type: String,
    pub id: String,
}

/// Deletes objects after a time.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct LifecycleRule {
    /// Age at which an object is deleted, in days, 1 to 36500.
    pub days: u32,
    /// Only objects whose names begin with this.
    /// @default every object
    pub prefix: Option<String>,
}

/// An object store, as a built resource holds it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct StorageConfig {
    #[napi(ts_type = "'storage'")]
    pub r#type: String,
    pub id: String,
    pub lifecycle_rules: Vec<LifecycleRule>,
    /// Whether anybody may read, without credentials.
    pub public_read: bool,
    /// Whether what is overwritten or deleted is kept as an older version.
    pub versioning: bool,
}

/// A key-value store, as a built resource holds it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct KvConfig {
    #[napi(ts_type = "'kv'")]
    pub r#type: String,
    pub id: String,
}

/// A queue, as a built resource holds it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct QueueConfig {
    #[napi(ts_type = "'queue'")]
    pub r#type: String,
    pub id: String,
}

/// A vault of secrets, as a built resource holds it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct VaultConfig {
    #[napi(ts_type = "'vault'")]
    pub r#type: String,
    pub id: String,
}

/// Checks the draft of a resource; answers its config.
pub(super) fn build(kind: ResourceType, draft: &str) -> String {
    answer(|| Resource::build(kind, &read(draft)?))
}

/// Reads what `js/raw.js` wrote.
pub(super) fn read(text: &str) -> Result<Raw, Report> {
    Raw::from_text(text).map_err(|why| Report::new("INTERNAL_ERROR", format!("A bug in @alienplatform/core: {why}")))
}

#[napi(skip_typescript)]
pub fn build_storage(draft: String) -> String {
    build(ResourceType::Storage, &draft)
}

#[napi(skip_typescript)]
pub fn build_kv(draft: String) -> String {
    build(ResourceType::Kv, &draft)
}

#[napi(skip_typescript)]
pub fn build_queue(draft: String) -> String {
    build(ResourceType::Queue, &draft)
}

#[napi(skip_typescript)]
pub fn build_vault(draft: String) -> String {
    build(ResourceType::Vault, &draft)
}
