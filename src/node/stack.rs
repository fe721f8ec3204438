//! Stack: the one native call behind its builder, and the shapes of what comes out.

use super::resources::{ResourceRef, read};
use super::value::answer;
use crate::model;
use napi_derive::napi;
use std::collections::HashMap;

/// A set of the user's own: rights in a cloud's own words, by platform. Local and Kubernetes grant nothing for it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct InlinePermissionSet {
    pub id: String,
    pub description: String,
    #[napi(ts_type = "Partial<Record<Platform, unknown>>")]
    pub platforms: serde_json::Value,
}

/// Who may do what.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct Permissions {
    /// Profiles by name; a daemon names the one it runs under.
    #[napi(ts_type = "Record<string, PermissionProfile>")]
    pub profiles: serde_json::Value,
    /// What the deployment itself may manage.
    /// @default "auto": what the stack's resources need
    #[napi(ts_type = "'auto' | { extend: PermissionProfile } | { override: PermissionProfile }")]
    pub management: Option<serde_json::Value>,
}

/// A resource in a built stack.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct StackEntry {
    #[napi(ts_type = "ResourceConfig")]
    pub config: serde_json::Value,
    /// What must be there before it, besides its links.
    pub dependencies: Vec<ResourceRef>,
    #[napi(ts_type = "Lifecycle")]
    pub lifecycle: String,
    /// Whether it may be reached from outside its environment.
    /// @default false
    pub remote_access: Option<bool>,
}

/// A built stack: plain data, the same as its JSON.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct StackConfig {
    pub id: String,
    /// Who may do what.
    /// @default every link may be read and written
    pub permissions: Option<Permissions>,
    /// By id, in the order they were added.
    pub resources: HashMap<String, StackEntry>,
    /// Where the stack may run.
    /// @default every platform
    #[napi(ts_type = "Platform[]")]
    pub supported_platforms: Option<Vec<String>>,
}

#[napi(skip_typescript)]
pub fn build_stack(draft: String) -> String {
    answer(|| model::Stack::build(&read(&draft)?))
}
