//! The one way from a path in a layer to a directory on disk. It cannot leave the layer.
//!
//! A path is walked component by component over the **merged view**: the layer being unpacked, then the unpacked
//! layers below it, as overlayfs will show them. Symbolic links are expanded here, in terms of that view: an absolute
//! target starts at the image's root, `..` stops there. What comes out is a path without links and without `..`,
//! and only such paths are handed to the kernel, by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS` (or, where
//! that call is missing, one `O_NOFOLLOW` open per component), so that even a mistake made here would be an error and
//! not an escape. `RESOLVE_IN_ROOT` alone would not do: the kernel sees one layer, and `bin -> usr/bin` may be in
//! another.

use super::{Failure, Lower};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, mkdirat, openat, openat2, statat};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says that nothing of a directory in lower layers shows through.
pub(super) const OPAQUE: &str = "user.overlay.opaque";
/// Linux's PATH_MAX, less the terminating zero.
const PATH_MAX: usize = 4095;
/// Directories inside one another; far above what programs make, below the usual limit of open files.
const DEPTH_MAX: usize = 256;
/// Parents that are kept open.
const LATE_MAX: usize = 64;
/// Linux's limit of symbolic links in one path.
const LINKS_MAX: usize = 40;

/// A directory of the layer being unpacked.
pub(super) struct Dir {
    /// From the layer's root, without links; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
}

/// A directory that no entry listed: its path and where its attributes come from.
pub(super) struct Implied {
    pub(super) path: Vec<u8>,
    /// The lower layer (an index from the top) that shows it, with its attributes; `None` where it is new.
    pub(super) from: Option<(usize, Stat)>,
}

/// The layer being unpacked and what is below it.
pub(super) struct Resolver {
    root: OwnedFd,
    /// From the top down.
    lowers: Vec<OwnedFd>,
    /// Parents of late, by the paths in the archive that led to them. Each is an open file.
    late: HashMap<Vec<u8>, Rc<Dir>>,
    /// Directories that were made on the way; taken by the caller.
    pub(super) implied: Vec<Implied>,
}

enum Seen {
    Absent,
    /// A whiteout of the layer itself.
    Whiteout,
    /// A directory, in the layer itself or in a lower one.
    Own,
    Lower(usize, Box<Stat>),
    /// A symbolic link with its target, and whether the layer itself has it.
    Link(Vec<u8>, bool),
    /// A file, a fifo or a device of the layer itself.
    File,
}

impl Resolver {
    /// A resolver for the empty directory `root`, above `lowers` (lowest first).
    pub(super) fn new(root: &Path, lowers: &[Lower]) -> std::io::Result<Resolver> {
        let lowers =
            lowers.iter().rev().map(|lower| lower.tree.try_clone().map(OwnedFd::from)).collect::<Result<_, _>>()?;
        Ok(Resolver { root: File::open(root)?.into(), lowers, late: HashMap::new(), implied: Vec::new() })
    }

    /// The components of a path in an archive: absolute ones count from the image's root, as everywhere in the field.
    ///
    /// # Errors
    /// `..` and zero bytes are refused (no image tool writes them), and what is too long or too deep.
    pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Failure> {
        let refuse = |why: String| Err(Failure::Unsafe { entry: super::shown(path), why });
        if path.contains(&0) {
            return refuse("its path holds a zero byte".to_owned());
        }
        if path.len() > PATH_MAX {
            return refuse(format!("its path has more than {PATH_MAX} bytes"));
        }
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
        if parts.contains(&&b".."[..]) {
            return refuse("its path holds `..`, which could lead out of the image".to_owned());
        }
        Ok(parts)
    }

    /// The directory in which an entry belongs, made with all its parents where it is missing.
    pub(super) fn parent(&mut self, entry: &[u8], components: &[&[u8]]) -> Result<Rc<Dir>, Failure> {
        let key = components.join(&b'/');
        if let Some(dir) = self.late.get(&key) {
            return Ok(dir.clone());
        }
        let (path, own) = self.walk(entry, components, true)?;
        let dir = self.open(path)?;
        // What a lower layer's link decided is not kept: an entry of this layer may come to hide that link. All else that
        // led there is the layer's own by now, and nothing of that changes but by `forget`.
        if own {
            if self.late.len() == LATE_MAX {
                self.late.clear();
            }
            self.late.insert(key, dir.clone());
        }
        Ok(dir)
    }

    /// The directory in which a hard link's target must be; nothing is made.
    pub(super) fn existing_parent(&mut self, entry: &[u8], components: &[&[u8]]) -> Result<Rc<Dir>, Failure> {
        let (path, _) = self.walk(entry, components, false)?;
        self.open(path)
    }

    /// To be called when a directory or a link of the layer goes away.
    pub(super) fn forget(&mut self) {
        self.late.clear();
    }

    /// Opens a directory of the layer itself, by a path without links.
    pub(super) fn open(&self, path: Vec<u8>) -> Result<Rc<Dir>, Failure> {
        let fd = open_beneath(&self.root, &path).map_err(|why| Failure::write("open", &path, why))?;
        Ok(Rc::new(Dir { path, fd }))
    }

    /// The names at the root of the layers below.
    pub(super) fn lower_root_names(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut names = Vec::new();
        for lower in &self.lowers {
            let entries = rustix::fs::Dir::read_from(lower).map_err(|why| Failure::write("read", b"", why))?;
            for entry in entries {
                let entry = entry.map_err(|why| Failure::write("read", b"", why))?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(name.to_vec());
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Walks to a directory; returns its path without links, and whether only the layer's own links led there.
    fn walk(&mut self, entry: &[u8], components: &[&[u8]], make: bool) -> Result<(Vec<u8>, bool), Failure> {
        let refuse = |why: String| Err(Failure::Unsafe { entry: super::shown(entry), why });
        let mut todo: VecDeque<Vec<u8>> = components.iter().map(|part| part.to_vec()).collect();
        let mut at: Vec<u8> = Vec::new();
        let (mut links, mut only_own) = (0, true);
        while let Some(part) = todo.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            if next.len() > PATH_MAX || next.iter().filter(|byte| **byte == b'/').count() >= DEPTH_MAX {
                return refuse(format!(
                    "its path is longer than {PATH_MAX} bytes or deeper than {DEPTH_MAX} directories"
                ));
            }
            match self.look(&at, &part).map_err(|why| Failure::name(entry, why))? {
                Seen::Own => at = next,
                Seen::Link(target, own) => {
                    links += 1;
                    only_own &= own;
                    if links > LINKS_MAX {
                        return refuse(format!("its path leads through more than {LINKS_MAX} symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                Seen::File => {
                    return refuse(format!("its parent {} is not a directory", super::shown(&next)));
                }
                _ if !make => return refuse(format!("{} is not in this layer", super::shown(&next))),
                Seen::Lower(layer, stat) => {
                    self.make(&at, &part, false)?;
                    self.implied.push(Implied { path: next.clone(), from: Some((layer, *stat)) });
                    at = next;
                }
                seen @ (Seen::Absent | Seen::Whiteout) => {
                    self.make(&at, &part, matches!(seen, Seen::Whiteout))?;
                    self.implied.push(Implied { path: next.clone(), from: None });
                    at = next;
                }
            }
        }
        Ok((at, only_own))
    }

    /// Makes a directory; over a whiteout it hides what is below.
    fn make(&self, at: &[u8], name: &[u8], over_whiteout: bool) -> Result<(), Failure> {
        let failed = |why| Failure::write("make", &join(at, name), why);
        let parent = open_beneath(&self.root, at).map_err(failed)?;
        if over_whiteout {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(failed)?;
        }
        mkdirat(&parent, name, Mode::RWXU).map_err(failed)?;
        if over_whiteout {
            set_opaque(&open_beneath(&parent, name).map_err(failed)?).map_err(failed)?;
        }
        Ok(())
    }

    /// What the merged view has under `name` in the directory `at`.
    fn look(&self, at: &[u8], name: &[u8]) -> Result<Seen, Errno> {
        if let Some((seen, hides)) = look_in(&self.root, at, name, None)? {
            match seen {
                Seen::Absent if !hides => {}
                seen => return Ok(seen),
            }
        }
        for (index, lower) in self.lowers.iter().enumerate() {
            match look_in(lower, at, name, Some(index))? {
                Some((Seen::Absent, false)) | None => {}
                // A lower file under our path is hidden by the directory that is made; a whiteout hides the rest.
                Some((Seen::Absent | Seen::Whiteout | Seen::File, _)) => return Ok(Seen::Absent),
                Some((seen, _)) => return Ok(seen),
            }
        }
        Ok(Seen::Absent)
    }
}

/// What one layer says about `name` in `at`, and whether it hides the layers below there. `None`: it says nothing.
fn look_in(layer: &OwnedFd, at: &[u8], name: &[u8], lower: Option<usize>) -> Result<Option<(Seen, bool)>, Errno> {
    let mut hides = false;
    if !at.is_empty() {
        let ends = at.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).chain([at.len()]);
        for end in ends {
            match open_beneath(layer, &at[..end]) {
                Ok(dir) => hides |= is_opaque(&dir),
                Err(Errno::NOENT) => return Ok(hides.then_some((Seen::Absent, true))),
                // A whiteout or a file in place of a parent hides all that is below.
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Some((Seen::Absent, true))),
                Err(why) => return Err(why),
            }
        }
    }
    let parent = open_beneath(layer, at)?;
    let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Some((Seen::Absent, hides))),
        found => found?,
    };
    let seen = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => match lower {
            None => Seen::Own,
            Some(index) => Seen::Lower(index, Box::new(stat)),
        },
        FileType::Symlink => {
            Seen::Link(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes(), lower.is_none())
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => Seen::Whiteout,
        _ => Seen::File,
    };
    Ok(Some((seen, hides)))
}

pub(super) fn join(at: &[u8], name: &[u8]) -> Vec<u8> {
    if at.is_empty() { name.to_vec() } else { [at, name].join(&b'/') }
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(fgetxattr(dir, OPAQUE, &mut value[..]), Ok(1)) && value[0] == b'y'
}

/// Marks a directory as hiding everything below it.
pub(super) fn set_opaque(dir: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", rustix::fs::XattrFlags::empty())
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether `openat2` was found missing (before Linux 5.6, or held back by a seccomp filter).
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens a directory beneath `root` by a path that holds no link and no `..`.
pub(super) fn open_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
            result => return result,
        }
    }
    walk_beneath(root, path)
}

/// The same without `openat2`.
fn walk_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut dir: Option<OwnedFd> = None;
    for part in path.split(|byte| *byte == b'/') {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let at = dir.as_ref().map_or(root.as_fd(), |dir| dir.as_fd());
        let next = openat(at, part, DIRECTORY, Mode::empty())?;
        dir = Some(next);
    }
    dir.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_opening_agree_and_follow_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("folders");
        std::fs::write(dir.path().join("a/file"), "").expect("a file");
        std::os::unix::fs::symlink("/etc", dir.path().join("a/out")).expect("a link");
        std::os::unix::fs::symlink("b", dir.path().join("a/in")).expect("a link");
        let root = OwnedFd::from(File::open(dir.path()).expect("opens"));
        for (path, opens) in [
            ("", true),
            ("a", true),
            ("a/b", true),
            ("a/file", false),
            ("a/out", false),
            ("a/in", false),
            ("a/out/ssl", false),
            ("a/in/c", false),
            ("..", false),
            ("a/../..", false),
            ("nothing", false),
        ] {
            assert_eq!(open_beneath(&root, path.as_bytes()).is_ok(), opens, "openat2 {path}");
            let walked = walk_beneath(&root, if path.is_empty() { b"." } else { path.as_bytes() });
            assert_eq!(walked.is_ok(), opens, "walk {path}");
        }
    }
}
