//! An image that is made here: one static program, so that whoever has the package has its image too.
//!
//! The same program gives the same bytes: no time, no owner and no order of this machine is in them.

use super::Options;
use super::digest::Digest;
use super::error::{Error, Result};
use super::platform::Platform;
use super::registry::{Blob, Registry};
use crate::model::ImageReference;
use crate::model::image_reference::RegistryReference;
use crate::sys::file::put;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A static program that an image is made of.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    /// Its file here.
    pub file: &'a Path,
    /// Its name, in the root folder of the image.
    pub name: &'a str,
    /// Folders that it writes to, absolute; they belong to `user`.
    pub folders: &'a [&'a str],
    /// User and group id that it runs under.
    pub user: u32,
    /// The image's labels.
    pub labels: &'a [(&'a str, &'a str)],
}

/// An image, whole and in memory.
#[derive(Debug)]
pub struct Made {
    layer: Blob,
    config: Blob,
    manifest: Blob,
}

impl Made {
    /// Puts the image together.
    ///
    /// # Errors
    /// `STORE_FAILED` where the program's file cannot be read.
    pub fn new(program: &Program<'_>) -> Result<Made> {
        let failed = |source| Error::Store { doing: "read", path: program.file.to_owned(), source };
        let tar = layer(program).map_err(failed)?;
        let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        let layer = packed.write_all(&tar).and_then(|()| packed.finish()).map_err(failed)?;
        let layer = Blob::new(layer);
        let Platform { os, architecture, .. } = Platform::host();
        let labels: serde_json::Map<String, Value> =
            program.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let config = json!({
            "architecture": architecture,
            "os": os,
            "config": {
                "User": format!("{0}:{0}", program.user),
                "Entrypoint": [format!("/{}", program.name)],
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&tar).to_string()] },
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": [layer.descriptor(LAYER_TYPE)],
        });
        Ok(Made { layer, config, manifest: Blob::new(manifest.to_string().into_bytes()) })
    }

    /// The digest of the manifest, by which the image can be pulled from wherever it is.
    pub fn digest(&self) -> String {
        self.manifest.digest.to_string()
    }

    /// Puts the image into a registry itself, not a mirror, under the reference's tag. What is there already is not sent again.
    ///
    /// # Errors
    /// `IMAGE_NOT_PUSHED` where the registry does not want it; `REGISTRY_UNREACHABLE`.
    pub async fn push(&self, reference: &RegistryReference, options: &Options) -> Result<()> {
        let registry = Registry::new(reference, None, options)?.for_pushing();
        for blob in [&self.layer, &self.config] {
            registry.push_blob(blob).await?;
        }
        registry.push_manifest(reference.tag.as_deref().unwrap_or("latest"), &self.manifest, MANIFEST_TYPE).await
    }

    /// Writes the image as a layout: a folder, or a tar file of one. Of a folder, other images in it stay on disk and
    /// leave its index.
    ///
    /// # Errors
    /// `STORE_FAILED`, `STORE_FULL`, `STORE_NOT_WRITABLE`; `IMAGE_OPTIONS_INVALID` for what is no layout.
    pub fn write(&self, output: &ImageReference) -> Result<()> {
        match output {
            ImageReference::OciDir { path, tag } => {
                let dir = PathBuf::from(path);
                let write = || {
                    fs::create_dir_all(dir.join("blobs/sha256"))?;
                    // The index comes last: until then there is no image.
                    self.members(tag.as_deref())
                        .iter()
                        .try_for_each(|(name, bytes)| put(&dir.join(name), 0o644, |file| file.write_all(bytes)))
                };
                write().map_err(|why| Error::store("write", &dir, why))
            }
            ImageReference::OciArchive { path, tag } => {
                let file = PathBuf::from(path);
                let mut archive = tar::Builder::new(Vec::new());
                let write = || {
                    // Those who make folders that no member names may give them away to root, and then need to be root.
                    for folder in ["blobs/", "blobs/sha256/"] {
                        append(&mut archive, folder, EntryType::Directory, 0o755, 0, &[])?;
                    }
                    for (name, bytes) in self.members(tag.as_deref()) {
                        append(&mut archive, &name, EntryType::Regular, 0o644, 0, &bytes)?;
                    }
                    let bytes = archive.into_inner()?;
                    put(&file, 0o644, |file| file.write_all(&bytes))
                };
                write().map_err(|why| Error::store("write", &file, why))
            }
            other => Err(Error::Options {
                what: format!("no image can be written to {other}"),
                hint: "give oci:DIR or oci-archive:FILE; `push` puts it into a registry".to_owned(),
            }),
        }
    }

    /// The files of a layout, the index last (OCI image specification, `image-layout.md`).
    fn members(&self, tag: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let mut entry = self.manifest.descriptor(MANIFEST_TYPE);
        if let Some(tag) = tag {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry] });
        let blobs = [&self.layer, &self.config, &self.manifest];
        let mut members: Vec<(String, Vec<u8>)> = blobs
            .into_iter()
            .map(|blob| (format!("blobs/sha256/{}", blob.digest.hex()), blob.bytes.to_vec()))
            .collect();
        members.push(("oci-layout".to_owned(), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()));
        members.push(("index.json".to_owned(), index.to_string().into_bytes()));
        members
    }
}

/// The one layer, not compressed.
fn layer(program: &Program<'_>) -> io::Result<Vec<u8>> {
    let bytes = fs::read(program.file)?;
    let mut archive = tar::Builder::new(Vec::with_capacity(bytes.len() + 4096));
    append(&mut archive, program.name, EntryType::Regular, 0o755, 0, &bytes)?;
    for folder in program.folders {
        let name = format!("{}/", folder.trim_matches('/'));
        append(&mut archive, &name, EntryType::Directory, 0o700, program.user, &[])?;
    }
    archive.into_inner()
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: EntryType,
    mode: u32,
    owner: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(u64::from(owner));
    header.set_gid(u64::from(owner));
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_is_the_same_image_and_another_one_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = |name: &str, bytes: &[u8]| {
            let file = dir.path().join(name);
            fs::write(&file, bytes).expect("written");
            let labels = [("version", "1")];
            Made::new(&Program { file: &file, name: "p", folders: &["/data"], user: 7, labels: &labels }).expect("made")
        };
        let one = made("a", b"program");
        assert_eq!(one.digest(), made("b", b"program").digest());
        assert_ne!(one.digest(), made("c", b"another").digest());
        let config: Value = serde_json::from_slice(&one.config.bytes).expect("JSON");
        assert_eq!(config["config"]["User"], "7:7");
        assert_eq!(config["config"]["Entrypoint"], json!(["/p"]));
    }
}
