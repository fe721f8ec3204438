//! The documents of an image: index, manifest and configuration.
//!
//! Shapes: OCI image specification 1.1 (`image-index.md`, `manifest.md`, `config.md`) and the Docker ones they grew
//! from (`application/vnd.docker.distribution.manifest.v2+json`, `….manifest.list.v2+json`). Only the fields that
//! are used are read, so that an odd annotation never keeps an image from running.

use super::digest::Digest;
use super::error::{Error, Place, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most bytes a manifest or an index may have; the distribution specification's own limit.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// The most bytes a configuration may have.
pub const CONFIG_MAX: u64 = 8 << 20;
/// The most layers an image may have; overlayfs takes 500 lower directories.
pub const LAYERS_MAX: usize = 500;

/// What a request for a manifest accepts.
pub const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A content descriptor: type, digest and size of a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub platform: Option<PlatformFields>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The platform of a manifest in an index, or of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PlatformFields {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl std::fmt::Display for PlatformFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().filter(|v| !v.is_empty()).map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

/// The manifest of one platform's image.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// What a manifest request, or an `index.json`, can turn out to be.
#[derive(Debug)]
pub enum Document {
    /// Several platforms, or several images of a layout.
    Index(Vec<Descriptor>),
    /// One platform's image.
    Manifest(Manifest),
}

impl Document {
    /// Reads a manifest or an index, told apart by what they hold as `containers/image` does: the media type a
    /// registry sends is often wrong, a body cannot be.
    pub fn parse(bytes: &[u8], place: &Place) -> Result<Document> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Any {
            schema_version: Option<u32>,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            fs_layers: Option<serde::de::IgnoredAny>,
        }
        let corrupt = |what: String| Error::Corrupt { place: Box::new(place.clone()), what };
        let any: Any =
            serde_json::from_slice(bytes).map_err(|why| corrupt(format!("its manifest is not valid: {why}")))?;
        match any {
            Any { schema_version: Some(1), .. } | Any { fs_layers: Some(_), .. } => Err(Error::Unsupported {
                place: Box::new(place.clone()),
                what: "its manifest is of Docker's schema 1, which registries gave up in 2020".to_owned(),
                hint: "pull and push it again with a current docker or skopeo, which writes schema 2".to_owned(),
            }),
            Any { manifests: Some(_), layers: Some(_), .. } => {
                Err(corrupt("its manifest has both layers and manifests".to_owned()))
            }
            Any { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
            Any { config: Some(config), layers: Some(layers), .. } => {
                if layers.len() > LAYERS_MAX {
                    return Err(corrupt(format!("it has {} layers, more than {LAYERS_MAX}", layers.len())));
                }
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            _ => Err(corrupt("its manifest names neither layers nor manifests".to_owned())),
        }
    }
}

/// An image's configuration document, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
pub struct ConfigDocument {
    #[serde(flatten)]
    pub platform: PlatformFields,
    #[serde(default)]
    config: Option<RuntimeFields>,
    rootfs: RootFs,
}

#[derive(Debug, Clone, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

// Go writes empty lists and maps as null.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuntimeFields {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    stop_signal: Option<String>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// How an image wants to be run: the `config` object of its configuration, and its platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// `USER`: `name`, `uid`, `name:group` or `uid:gid`; empty means root.
    pub user: String,
    /// `WORKDIR`; empty means `/`.
    pub working_dir: String,
    /// `ENTRYPOINT`, in exec form.
    pub entrypoint: Vec<String>,
    /// `CMD`, in exec form.
    pub cmd: Vec<String>,
    /// `ENV`: `NAME=value` lines, in order.
    pub env: Vec<String>,
    /// `STOPSIGNAL`: a name (`SIGQUIT`) or a number.
    pub stop_signal: Option<String>,
    /// `VOLUME`: absolute paths, sorted.
    pub volumes: Vec<String>,
    /// Go's name of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Go's name of the operating system: `linux`.
    pub os: String,
}

impl ConfigDocument {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8], place: &Place) -> Result<ConfigDocument> {
        serde_json::from_slice(bytes).map_err(|why| Error::Corrupt {
            place: Box::new(place.clone()),
            what: format!("its configuration is not valid: {why}"),
        })
    }

    /// The digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or(&[])
    }

    /// How the image wants to be run.
    pub fn into_image_config(self) -> ImageConfig {
        let config = self.config.unwrap_or_default();
        ImageConfig {
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: config.volumes.unwrap_or_default().into_keys().collect(),
            architecture: self.platform.architecture,
            os: self.platform.os,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Document, String> {
        Document::parse(text.as_bytes(), &Place::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_a_manifest_is_said() {
        let empty = format!("sha256:{}", "0".repeat(64));
        for (text, part) in [
            ("", "not valid"),
            ("{}", "neither layers nor manifests"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"manifests":[],"layers":[]}"#, "both"),
            (&format!(r#"{{"config":{{"digest":"{empty}","size":-1}},"layers":[]}}"#), "not valid"),
            (r#"{"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#, "sha256: and 64"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn null_is_empty_as_go_writes_it() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":null,"Cmd":["/a"],"Volumes":{"/b":{},"/a":{}}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ConfigDocument::parse(text, &Place::default()).expect("valid").into_image_config();
        assert_eq!((config.entrypoint.len(), config.cmd.len()), (0, 1));
        assert_eq!(config.volumes, ["/a", "/b"]);
    }
}
