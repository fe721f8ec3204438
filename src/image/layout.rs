//! OCI image layouts: a folder, or a tar file of one (OCI image specification, `image-layout.md`).
//!
//! A tar file of one is read where it lies (see `archive`); its links are not followed.

use super::archive::{Archive, Compression, Location, compression};
use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::{Descriptor, Document, MANIFEST_MAX};
use std::io;
use std::path::{Path, PathBuf};

/// The annotation that gives an image in a layout its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image layout. All reads block, and are short.
#[derive(Debug)]
pub(super) struct Layout {
    place: Place,
    path: PathBuf,
    tag: Option<String>,
    /// `None` for a folder.
    archive: Option<Archive>,
}

impl Layout {
    /// Opens a folder (`oci:`).
    pub(super) fn folder(path: &str, tag: Option<&str>, reference: &str) -> Layout {
        let place = Place { tag: tag.map(str::to_owned), ..Place::named(reference) };
        Layout { place, path: PathBuf::from(path), tag: tag.map(str::to_owned), archive: None }
    }

    /// Opens a tar file (`oci-archive:`) and notes where its members are.
    pub(super) fn archive(path: &str, tag: Option<&str>, reference: &str) -> Result<Layout> {
        let mut layout = Layout::folder(path, tag, reference);
        let packed = compression(Path::new(path)).map_err(|why| layout.cannot_read(Path::new(path), &why))?;
        if packed != Compression::Plain {
            return Err(Error::Unsupported {
                place: Box::new(layout.place),
                what: format!("the archive {path} is compressed as a whole"),
                hint: format!("uncompress it once: gunzip or unzstd {path}"),
            });
        }
        let archive = Archive::open(Path::new(path));
        layout.archive = Some(archive.map_err(|why| layout.corrupt(format!("{path} is not a tar archive: {why}")))?);
        Ok(layout)
    }

    /// What errors about this image say of it.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The entries of `index.json` that the reference can mean: those with its tag, or all there are when it has
    /// none and there is but one.
    pub(super) fn candidates(&self) -> Result<Vec<Descriptor>> {
        let bytes = self.read_member("index.json", MANIFEST_MAX)?;
        let Document::Index(all) = Document::parse(&bytes, &self.place)? else {
            return Err(self.corrupt("its index.json is not an index".to_owned()));
        };
        let name = |descriptor: &Descriptor| descriptor.annotations.as_ref()?.get(REF_NAME).cloned();
        let names: Vec<String> = all.iter().filter_map(name).collect();
        let found: Vec<Descriptor> = match &self.tag {
            Some(tag) => all.into_iter().filter(|descriptor| name(descriptor).as_ref() == Some(tag)).collect(),
            None if all.len() <= 1 => all,
            None => Vec::new(),
        };
        if !found.is_empty() {
            return Ok(found);
        }
        let has = if names.is_empty() { "no tags".to_owned() } else { format!("the tags {}", names.join(", ")) };
        let what = match &self.tag {
            Some(tag) => format!("{} has {has}, not {tag}", self.path.display()),
            None if names.is_empty() => {
                format!("{} is empty, or holds several images without tags", self.path.display())
            }
            None => format!("{} has {has}; name one of them behind the path", self.path.display()),
        };
        Err(Error::NotFound { place: Box::new(self.place.clone()), what })
    }

    /// A manifest or configuration, verified.
    pub(super) fn small_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let bytes = self.read_member(&name_of(digest), max)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(self.corrupt(format!("its blob {digest} has the digest {found}")))
        }
    }

    /// Where a blob lies; its contents are not looked at.
    pub(super) fn locate(&self, digest: &Digest) -> Result<Location> {
        self.member(&name_of(digest))
    }

    fn member(&self, name: &str) -> Result<Location> {
        if let Some(archive) = &self.archive {
            return archive.file(name).ok_or_else(|| {
                let what = format!("{} holds no {name}", self.path.display());
                Error::NotFound { place: Box::new(self.place.clone()), what }
            });
        }
        let path = self.path.join(name);
        let meta = std::fs::metadata(&path).map_err(|why| self.cannot_read(&path, &why))?;
        if !meta.is_file() {
            return Err(self.corrupt(format!("{} is not a file", path.display())));
        }
        Ok(Location { path, offset: 0, size: meta.len() })
    }

    fn read_member(&self, name: &str, max: u64) -> Result<Vec<u8>> {
        let location = self.member(name)?;
        if location.size > max {
            return Err(self.corrupt(format!("{name} has {} bytes, more than {max}", location.size)));
        }
        location.read().map_err(|why| self.cannot_read(&location.path, &why))
    }

    fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { place: Box::new(self.place.clone()), what }
    }

    fn cannot_read(&self, path: &Path, why: &io::Error) -> Error {
        let what = format!("{} cannot be read: {why}", path.display());
        Error::NotFound { place: Box::new(self.place.clone()), what }
    }
}

fn name_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
