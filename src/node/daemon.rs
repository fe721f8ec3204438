//! Daemon: the one native call behind its builder, and the shapes of what goes in and comes out.

use super::resources::{self, ResourceRef};
use crate::model::ResourceType;
use napi_derive::napi;
use std::collections::HashMap;

/// A container image.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct ImageCode {
    #[napi(ts_type = "'image'")]
    pub r#type: String,
    /// `registry/repository[:tag][@digest]`; on this machine also `oci:DIR[:tag]`, `oci-archive:FILE[:tag]`,
    /// `docker-archive:FILE[:NAME[:TAG]|:@INDEX]`, plain or gzipped, and `docker-daemon:NAME[:TAG]|sha256:ID`. The last
    /// two are known by the image ID, as `docker images --no-trunc` shows it.
    pub image: String,
}

/// Source that is to become an image. Reserved: Local and Kubernetes run images, and preflight says so.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct SourceCode {
    #[napi(ts_type = "'source'")]
    pub r#type: String,
    /// The folder that holds it.
    pub src: String,
    #[napi(ts_type = "Toolchain")]
    pub toolchain: serde_json::Value,
}

/// Builds a Rust binary.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct RustToolchain {
    #[napi(ts_type = "'rust'")]
    pub r#type: String,
    pub binary_name: String,
}

/// Builds a TypeScript program.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct TypescriptToolchain {
    #[napi(ts_type = "'typescript'")]
    pub r#type: String,
    pub binary_name: Option<String>,
}

/// Builds a Dockerfile.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct DockerToolchain {
    #[napi(ts_type = "'docker'")]
    pub r#type: String,
    /// Path of the Dockerfile inside the source.
    /// @default Dockerfile
    pub dockerfile: Option<String>,
    /// The stage to build.
    /// @default the last
    pub target: Option<String>,
    pub build_args: Option<HashMap<String, String>>,
}

/// CPU or memory in Kubernetes' notation: what is requested, and what may be used.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct Bounds {
    /// Requested. CPU such as `"100m"`, memory such as `"128Mi"`.
    pub min: String,
    /// CPU: the weight of its share, never a cap. Memory: the limit. Never less than `min`.
    pub desired: String,
}

/// A daemon, as a built resource holds it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct DaemonConfig {
    #[napi(ts_type = "'daemon'")]
    pub r#type: String,
    #[napi(ts_type = "DaemonCode")]
    pub code: serde_json::Value,
    /// What to run instead of the image's entry point and command, as argv.
    /// @default what the image says
    pub command: Option<Vec<String>>,
    /// Whether it takes commands.
    pub commands_enabled: bool,
    /// A share of the machine's CPU, never a cap.
    /// @default no wish; Kubernetes then requests 0.1
    pub cpu: Option<Bounds>,
    pub environment: HashMap<String, String>,
    pub id: String,
    /// What is bound into it.
    pub links: Vec<ResourceRef>,
    /// Memory; `desired` is the limit.
    /// @default no limit; Kubernetes then requests 128Mi
    pub memory: Option<Bounds>,
    /// The name of its permission profile.
    pub permissions: String,
    /// Seconds from the stop signal to the kill, 1 to 86400.
    /// @default 30
    pub stop_grace_period_seconds: Option<u32>,
}

/// What a running daemon reports about itself.
#[napi(object, object_from_js = false, object_to_js = false)]
pub struct DaemonOutputs {
    /// What the platform calls it.
    pub daemon_name: String,
    pub running: bool,
}

#[napi(skip_typescript)]
pub fn build_daemon(draft: String) -> String {
    resources::build(ResourceType::Daemon, &draft)
}
