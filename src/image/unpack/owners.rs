//! Who owns what in a layer that an ordinary user unpacked.
//!
//! Such a user cannot give files away, so all are his own; a later step gives them, inside a user namespace with
//! subordinate ids, to whom the layer says. The list is a file of records `UID GID PATH\0`: two decimal numbers and
//! the path from the layer's root as raw bytes (`.` for the root itself), sorted by path, one for each entry whose
//! user or group is not 0. Every path exists in the layer and leads through no symbolic link.

use super::Failure;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Owner and group by path, where they are not both 0.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_path: BTreeMap<Vec<u8>, (u32, u32)>,
}

impl Owners {
    /// Notes who owns `path`; what was noted before is replaced.
    pub(super) fn set(&mut self, path: &[u8], owner: (u32, u32)) {
        match owner {
            (0, 0) => self.by_path.remove(path),
            owner => self.by_path.insert(path.to_vec(), owner),
        };
    }

    /// Who owns `path`.
    pub(super) fn get(&self, path: &[u8]) -> (u32, u32) {
        self.by_path.get(path).copied().unwrap_or((0, 0))
    }

    /// Forgets `path` and what is below it.
    pub(super) fn forget(&mut self, path: &[u8]) {
        remove_tree(&mut self.by_path, path);
    }

    /// Writes the list; returns whether there was anything to write.
    pub(super) fn write(&self, file: &Path) -> Result<bool, Failure> {
        if self.by_path.is_empty() {
            return Ok(false);
        }
        let write = || {
            let mut out = BufWriter::new(File::options().write(true).create_new(true).open(file)?);
            for (path, (uid, gid)) in &self.by_path {
                write!(out, "{uid} {gid} ")?;
                out.write_all(if path.is_empty() { b"." } else { path })?;
                out.write_all(&[0])?;
            }
            out.flush()
        };
        write().map_err(|why: io::Error| Failure::write("write the owners of", b"", why))?;
        Ok(true)
    }
}

/// The owners that `list`, which has not been read yet, gives for `wanted` paths, as they stand there (`.` for the root).
pub(super) fn look_up(list: &File, wanted: &HashSet<&[u8]>) -> io::Result<Owners> {
    let mut found = Owners::default();
    let mut reader = BufReader::new(list);
    let mut record = Vec::new();
    while reader.read_until(0, &mut record)? > 0 {
        let text = record.strip_suffix(&[0]).unwrap_or(&record);
        let mut fields = text.splitn(3, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u32>().ok();
        if let (Some(uid), Some(gid)) = (number(), number())
            && let Some(path) = fields.next().filter(|path| wanted.contains(path))
        {
            found.set(if path == b"." { b"" } else { path }, (uid, gid));
        }
        record.clear();
    }
    Ok(found)
}

/// Removes `path` and all that is below it from a map by path.
pub(super) fn remove_tree<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
    map.remove(path);
    // `/` sorts before `0`: the range holds just what begins with `path/`.
    let (below, behind) = ([path, b"/"].concat(), [path, b"0"].concat());
    let inside: Vec<Vec<u8>> = map.range(below..behind).map(|(path, _)| path.clone()).collect();
    for path in inside {
        map.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_back_as_written_and_only_what_is_below_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("owners");
        let mut owners = Owners::default();
        for path in [&b""[..], b"a", b"a/b", b"a-c", b"a0", b"x \xff\n", b"zero"] {
            owners.set(path, (1000, 5));
        }
        owners.set(b"zero", (0, 0));
        owners.forget(b"a");
        assert!(owners.write(&file).expect("writes"));
        let wanted = HashSet::from([&b"."[..], b"a", b"a/b", b"a-c", b"x \xff\n"]);
        let found = look_up(&File::open(&file).expect("opens"), &wanted).expect("reads");
        let paths: Vec<&[u8]> = found.by_path.keys().map(|path| &path[..]).collect();
        assert_eq!(paths, [&b""[..], b"a-c", b"x \xff\n"]);
        assert!(found.by_path.values().all(|owner| *owner == (1000, 5)));
    }
}
