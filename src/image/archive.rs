//! Tar files that images come in, read where they lie.
//!
//! The headers are walked once and members are read at their places in the file. Nothing is unpacked, so the names in
//! an archive are only ever looked up, never written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The most members an archive may have; each costs a little memory.
const MEMBERS_MAX: usize = 100_000;
/// Links that are followed from one name to its file.
const LINKS_MAX: usize = 8;

/// Where bytes lie.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Location {
    /// The bytes, which are few: the caller has looked at the size.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// How a file is compressed as a whole, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// How the file at `path` is compressed.
pub(super) fn compression(path: &Path) -> io::Result<Compression> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::Plain,
    })
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Another member's name.
    Link(Vec<u8>),
}

/// What a tar file holds.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    members: HashMap<Vec<u8>, Member>,
}

impl Archive {
    /// Walks the headers of an uncompressed tar file.
    pub(super) fn open(path: &Path) -> io::Result<Archive> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut members = HashMap::new();
        let mut archive = tar::Archive::new(file);
        // Raw: an extension header is passed over like a file, so that no length it claims is believed. The names of
        // images' own files are short and need none.
        for entry in archive.entries_with_seek()?.raw(true) {
            let entry = entry?;
            if members.len() >= MEMBERS_MAX {
                return Err(io::Error::other(format!("it has more than {MEMBERS_MAX} members")));
            }
            let name = clean(b"", &entry.path_bytes());
            let kind = entry.header().entry_type();
            let target = entry.link_name_bytes().unwrap_or_default();
            let member = if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(io::Error::other("it ends in the middle of a member"));
                }
                Member::File { offset, size }
            } else if kind.is_symlink() {
                Member::Link(clean(parent(&name), &target))
            } else if kind.is_hard_link() {
                Member::Link(clean(b"", &target))
            } else {
                continue;
            };
            // The last of two with one name counts, as for any tar reader.
            members.insert(name, member);
        }
        Ok(Archive { path: path.to_owned(), members })
    }

    /// Where the file of this name lies; nothing for a link.
    pub(super) fn file(&self, name: &str) -> Option<Location> {
        match self.members.get(name.as_bytes())? {
            Member::File { offset, size } => Some(Location { path: self.path.clone(), offset: *offset, size: *size }),
            Member::Link(_) => None,
        }
    }

    /// The same, through links to other members: `docker save` writes a layer once, and a link for each image more.
    pub(super) fn file_through_links(&self, name: &str) -> Option<Location> {
        let mut name = clean(b"", name.as_bytes());
        for _ in 0..LINKS_MAX {
            match self.members.get(&name)? {
                Member::File { offset, size } => {
                    return Some(Location { path: self.path.clone(), offset: *offset, size: *size });
                }
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

fn parent(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &name[..slash])
}

/// `name` in terms of the archive's root, seen from the folder `from`; `..` stops there.
fn clean(from: &[u8], name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let from = if name.starts_with(b"/") { b"" } else { from };
    for part in from.split(|byte| *byte == b'/').chain(name.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn names_are_counted_from_the_archives_root() {
        for (from, name, expected) in [
            ("", "./a//b/", "a/b"),
            ("a", "../b/layer.tar", "b/layer.tar"),
            ("a", "../../../b", "b"),
            ("a", "/b", "b"),
            ("a/b", "c", "a/b/c"),
        ] {
            assert_eq!(String::from_utf8_lossy(&clean(from.as_bytes(), name.as_bytes())), expected);
        }
    }
}
