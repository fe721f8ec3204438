//! OCI image layouts: a folder, or a tar file of one (OCI image specification, `image-layout.md`).
//!
//! An archive is read where it lies: its headers are walked once, and blobs are read at their places in the file.
//! Nothing of it is unpacked, so the names in it are only ever looked up, never written.

use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::{Descriptor, Document, MANIFEST_MAX};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The annotation that gives an image in a layout its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The most members an archive may have; each costs a little memory.
const MEMBERS_MAX: usize = 100_000;

/// An image layout. All reads block, and are short.
#[derive(Debug)]
pub(super) struct Layout {
    place: Place,
    path: PathBuf,
    tag: Option<String>,
    /// Where the regular files of an archive are: name → offset and size. `None` for a folder.
    members: Option<HashMap<Vec<u8>, (u64, u64)>>,
}

/// Where a blob lies.
#[derive(Debug)]
pub(super) struct Location {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Layout {
    /// Opens a folder (`oci:`).
    pub(super) fn folder(path: &str, tag: Option<&str>, reference: &str) -> Layout {
        let place = Place { reference: reference.to_owned(), tag: tag.map(str::to_owned), ..Place::default() };
        Layout { place, path: PathBuf::from(path), tag: tag.map(str::to_owned), members: None }
    }

    /// Opens a tar file (`oci-archive:`) and notes where its members are.
    pub(super) fn archive(path: &str, tag: Option<&str>, reference: &str) -> Result<Layout> {
        let mut layout = Layout::folder(path, tag, reference);
        let mut file = File::open(path).map_err(|why| layout.cannot_read(Path::new(path), &why))?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic).map_err(|why| layout.cannot_read(Path::new(path), &why))?;
        if read >= 2 && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(Error::Unsupported {
                place: Box::new(layout.place),
                what: format!("the archive {path} is compressed as a whole"),
                hint: format!("uncompress it once: gunzip or unzstd {path}"),
            });
        }
        let members = members(file).map_err(|why| layout.corrupt(format!("{path} is not a tar archive: {why}")))?;
        layout.members = Some(members);
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
        if let Some(members) = &self.members {
            let Some((offset, size)) = members.get(name.as_bytes()) else {
                let what = format!("{} holds no {name}", self.path.display());
                return Err(Error::NotFound { place: Box::new(self.place.clone()), what });
            };
            return Ok(Location { path: self.path.clone(), offset: *offset, size: *size });
        }
        let path = self.path.join(name);
        let meta = std::fs::metadata(&path).map_err(|why| self.cannot_read(&path, &why))?;
        if !meta.is_file() {
            return Err(self.corrupt(format!("{} is not a file", path.display())));
        }
        Ok(Location { path, offset: 0, size: meta.len() })
    }

    fn read_member(&self, name: &str, max: u64) -> Result<Vec<u8>> {
        let Location { path, offset, size } = self.member(name)?;
        if size > max {
            return Err(self.corrupt(format!("{name} has {size} bytes, more than {max}")));
        }
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(size).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|why: io::Error| self.cannot_read(&path, &why))
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

/// The regular files of an archive. The last of two with one name counts, as for any tar reader.
fn members(mut file: File) -> io::Result<HashMap<Vec<u8>, (u64, u64)>> {
    file.seek(SeekFrom::Start(0))?;
    let length = file.metadata()?.len();
    let mut found = HashMap::new();
    let mut archive = tar::Archive::new(file);
    // Raw: an extension header is passed over like a file, so that no length it claims is believed. The names of a
    // layout are short and need none.
    for entry in archive.entries_with_seek()?.raw(true) {
        let entry = entry?;
        if found.len() >= MEMBERS_MAX {
            return Err(io::Error::other(format!("it has more than {MEMBERS_MAX} members")));
        }
        if entry.header().entry_type().is_file() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(io::Error::other("it ends in the middle of a member"));
            }
            let name = entry.path_bytes();
            found.insert(name.strip_prefix(b"./").unwrap_or(&name).to_vec(), (offset, size));
        }
    }
    Ok(found)
}
