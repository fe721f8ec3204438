//! Puts a layer's entries down in its directory.
//!
//! The directory is this process' alone until it is renamed into the store. An existing leaf is never written
//! through: it is removed and made anew, except that a real directory takes a directory's new attributes.
//! Directories are kept at mode 0700 until the end, so that an ordinary user can fill one that ends up at 0555.

use super::meter::Limits;
use super::owners::{self, Owners};
use super::resolver::{Dir, Implied, Resolver, join, open_beneath, set_opaque};
use super::tarball::{Entry, Kind, Tarball};
use super::{Failure, Target, really_root, shown};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::fs::{chownat, fchmod, fchown, fsetxattr, fstat, ftruncate, futimens, linkat, mkdirat, mkfifoat, mknodat};
use rustix::fs::{openat, statat, symlinkat, unlinkat, utimensat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::rc::Rc;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// What aufs, Docker's first storage, left in layers for itself.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk"];

/// What a directory gets once everything is in it.
#[derive(Debug, Clone)]
struct DirAttributes {
    mode: u32,
    mtime: (i64, u32),
    owner: (u32, u32),
    /// The lower layer (an index from the top) whose list of owners says who owns it.
    owner_from: Option<usize>,
}

/// A layer's directory in the making.
pub(super) struct Tree<'a> {
    resolver: Resolver,
    target: &'a Target,
    limits: Limits,
    root: bool,
    dirs: BTreeMap<Vec<u8>, DirAttributes>,
    owners: Owners,
    entries: u64,
    names: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Tree<'a> {
    /// Makes the empty directory.
    pub(super) fn make(target: &'a Target, limits: &Limits) -> Result<Tree<'a>, Failure> {
        let failed = |why| Failure::write("make", b"", why);
        DirBuilder::new().mode(0o700).create(&target.tree).map_err(failed)?;
        let resolver = Resolver::new(&target.tree, &target.lowers).map_err(|why| Failure::write("open", b"", why))?;
        // overlayfs takes the attributes of the image's root from the highest layer, so one that does not list it
        // passes on those below it.
        let root = really_root();
        let attributes = match target.lowers.last() {
            Some(lower) => {
                let stat = rustix::fs::fstat(&lower.tree).map_err(|why| Failure::write("read", b"", why))?;
                lower_attributes(root, 0, &stat)
            }
            None => new_attributes(),
        };
        Ok(Tree {
            resolver,
            target,
            limits: limits.clone(),
            root,
            dirs: BTreeMap::from([(Vec::new(), attributes)]),
            owners: Owners::default(),
            entries: 0,
            names: 0,
            bytes: 0,
            buffer: vec![0; super::BUFFER],
        })
    }

    /// Puts one entry down, its contents read from `contents`.
    pub(super) fn put(&mut self, entry: &Entry, contents: &mut Tarball<impl Read>) -> Result<(), Failure> {
        self.count(entry)?;
        let components = Resolver::components(&entry.path)?;
        let Some((name, parents)) = components.split_last() else {
            return match entry.kind {
                Kind::Directory => self.set_dir(Vec::new(), entry),
                Kind::Other => Ok(()),
                _ => self.refuse(entry, "it would replace the image's root".to_owned()),
            };
        };
        if components.iter().any(|part| AUFS.contains(part)) {
            return Ok(());
        }
        if let Some(part) = parents.iter().find(|part| part.starts_with(WHITEOUT)) {
            return self.refuse(entry, format!("its parent {} is a whiteout", shown(part)));
        }
        // A device 0/0 is overlayfs' whiteout; other devices are nothing that an image may bring.
        if matches!(entry.kind, Kind::Device | Kind::Other) && !name.starts_with(WHITEOUT) {
            return Ok(());
        }
        let parent = self.resolver.parent(&entry.path, parents)?;
        self.adopt_implied();
        if *name == OPAQUE_WHITEOUT {
            return self.hide_all(&parent);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
                return self.refuse(entry, "it is a whiteout of no file".to_owned());
            }
            return self.hide(&parent, hidden);
        }
        match entry.kind {
            Kind::Directory => self.put_dir(&parent, name, entry),
            Kind::File => self.put_file(&parent, name, entry, contents),
            Kind::HardLink => self.put_link(&parent, name, entry),
            Kind::Symlink => self.put_symlink(&parent, name, entry),
            Kind::Fifo => self.put_fifo(&parent, name, entry),
            Kind::Device | Kind::Other => Ok(()),
        }
    }

    /// Gives the directories their attributes, deepest first, and writes the list of owners; returns whether there
    /// is one.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        self.owners_of_lowers()?;
        let root = open_beneath_path(&self.target.tree)?;
        for (path, attributes) in self.dirs.iter().rev() {
            let failed = |why: Errno| Failure::write("set the attributes of", path, why);
            let dir = open_beneath(&root, path).map_err(failed)?;
            let mut mode = self.mode(attributes.mode);
            if self.root {
                give(&dir, attributes.owner).map_err(failed)?;
            } else {
                self.owners.set(path, attributes.owner);
                if path.is_empty() {
                    // An ordinary user cannot rename a directory into the store that he may not write.
                    mode |= 0o700;
                }
            }
            fchmod(&dir, Mode::from_raw_mode(mode)).map_err(failed)?;
            futimens(&dir, &times(attributes.mtime)).map_err(failed)?;
        }
        if self.root { Ok(false) } else { self.owners.write(&self.target.owners) }
    }

    fn count(&mut self, entry: &Entry) -> Result<(), Failure> {
        self.entries += 1;
        self.names += (entry.path.len() + entry.link.len()) as u64;
        if self.entries > self.limits.entries {
            return self.refuse(entry, format!("the layer has more than {} entries", self.limits.entries));
        }
        if self.names > self.limits.names {
            return self.refuse(entry, format!("the layer's paths have more than {} bytes", self.limits.names));
        }
        if entry.kind == Kind::File {
            self.bytes = self.bytes.saturating_add(entry.size);
            if self.bytes > self.limits.bytes {
                let why = format!("with its {} bytes the layer has more than {}", entry.size, self.limits.bytes);
                return self.refuse(entry, why);
            }
        }
        Ok(())
    }

    fn refuse<T>(&self, entry: &Entry, why: String) -> Result<T, Failure> {
        Err(Failure::Unsafe { entry: shown(&entry.path), why })
    }

    /// Permission bits as they may be here: only root may bring programs that run as their owner.
    fn mode(&self, mode: u32) -> u32 {
        if self.root { mode & 0o7777 } else { mode & 0o1777 }
    }

    fn adopt_implied(&mut self) {
        let root = self.root;
        for Implied { path, from } in self.resolver.implied.drain(..) {
            let attributes = from.map_or_else(new_attributes, |(lower, stat)| lower_attributes(root, lower, &stat));
            self.names += path.len() as u64;
            self.dirs.insert(path, attributes);
        }
    }

    fn set_dir(&mut self, path: Vec<u8>, entry: &Entry) -> Result<(), Failure> {
        let owner = (entry.uid, entry.gid);
        self.dirs.insert(path, DirAttributes { mode: entry.mode, mtime: entry.mtime, owner, owner_from: None });
        Ok(())
    }

    fn put_dir(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        let path = join(&parent.path, name);
        let made = mkdirat(&parent.fd, name, Mode::RWXU);
        if made == Err(Errno::EXIST) {
            let stat = statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(|why| Failure::write("read", &entry.path, why))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // What stood here hid what is below; the directory that takes its place goes on doing so.
                self.remove(parent, name)?;
                let failed = |why| Failure::write("make", &entry.path, why);
                mkdirat(&parent.fd, name, Mode::RWXU).map_err(failed)?;
                set_opaque(&open_beneath(&parent.fd, name).map_err(failed)?).map_err(failed)?;
            }
        } else {
            made.map_err(|why| Failure::name(&entry.path, why))?;
        }
        self.set_dir(path, entry)
    }

    fn put_file(
        &mut self,
        parent: &Dir,
        name: &[u8],
        entry: &Entry,
        contents: &mut Tarball<impl Read>,
    ) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.mode(entry.mode);
        // Bits that mean something beside who may do what are given once all else is right.
        let open = || openat(&parent.fd, name, flags, Mode::from_raw_mode(mode & 0o777));
        let fd = self.fresh(parent, name, entry, open)?;
        let mut file = File::from(fd);
        let failed = |why: std::io::Error| Failure::write("write", &entry.path, why);
        match &entry.pieces {
            None => loop {
                let count = contents.read(&mut self.buffer)?;
                if count == 0 {
                    break;
                }
                file.write_all(&self.buffer[..count]).map_err(failed)?;
            },
            Some(pieces) => {
                for (at, length) in pieces {
                    file.seek(SeekFrom::Start(*at)).map_err(failed)?;
                    let mut left = *length;
                    while left > 0 {
                        let want = left.min(self.buffer.len() as u64) as usize;
                        let count = contents.read(&mut self.buffer[..want])?;
                        file.write_all(&self.buffer[..count]).map_err(failed)?;
                        left -= count as u64;
                    }
                }
                ftruncate(&file, entry.size).map_err(|why| failed(why.into()))?;
            }
        }
        let fd = OwnedFd::from(file);
        let failed = |why| Failure::write("set the attributes of", &entry.path, why);
        // Each change is one of the journal's: most files are as they have to be from their beginning.
        let made = fstat(&fd).map_err(failed)?;
        let owner = (entry.uid, entry.gid);
        let given = self.root && owner != (made.st_uid, made.st_gid);
        if self.root {
            if given {
                give(&fd, owner).map_err(failed)?;
            }
            if let Some(capability) = &entry.capability {
                match fsetxattr(&fd, "security.capability", capability, XattrFlags::empty()) {
                    // The file system may know none, the process may not grant any, the value may be nonsense:
                    // then the program runs without.
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
                    Err(why) => return Err(failed(why)),
                }
            }
        } else {
            self.owners.set(&join(&parent.path, name), owner);
        }
        // Behind chown, which takes away the setuid bit.
        if given || made.st_mode & 0o7777 != mode {
            fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)?;
        }
        futimens(&fd, &times(entry.mtime)).map_err(failed)
    }

    fn put_link(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        let components = Resolver::components(&entry.link)?;
        let Some((target_name, parents)) = components.split_last() else {
            return self.refuse(entry, "it is a hard link to a directory".to_owned());
        };
        let target = self.resolver.existing_parent(&entry.path, parents)?;
        let what = shown(&entry.link);
        match statat(&target.fd, *target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(_) => return self.refuse(entry, format!("it is a hard link to {what}, which is not a regular file")),
            Err(Errno::NOENT) => {
                return self.refuse(entry, format!("it is a hard link to {what}, which is not in this layer"));
            }
            Err(why) => return Err(Failure::name(&entry.path, why)),
        }
        if target.path == parent.path && target_name == &name {
            return Ok(());
        }
        let (path, target_path) = (join(&parent.path, name), join(&target.path, target_name));
        if target_path.starts_with(&join(&path, b"")) {
            return self.refuse(entry, format!("it is a hard link to {what}, which it would replace"));
        }
        let link = || linkat(&target.fd, *target_name, &parent.fd, name, AtFlags::empty());
        self.fresh(parent, name, entry, link)?;
        let owner = self.owners.get(&target_path);
        self.owners.set(&path, owner);
        Ok(())
    }

    fn put_symlink(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return self.refuse(entry, "it is a symbolic link without a target".to_owned());
        }
        if entry.link.len() > 4095 {
            return self.refuse(entry, "it is a symbolic link with a target of more than 4095 bytes".to_owned());
        }
        let link = || symlinkat(&entry.link[..], &parent.fd, name);
        self.fresh(parent, name, entry, link)?;
        self.set_leaf(parent, name, entry, None)
    }

    fn put_fifo(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        self.fresh(parent, name, entry, || mkfifoat(&parent.fd, name, Mode::RUSR | Mode::WUSR))?;
        self.set_leaf(parent, name, entry, Some(self.mode(entry.mode)))
    }

    /// Attributes of a leaf that is not opened: nobody else writes here, so its name still means it.
    fn set_leaf(&mut self, parent: &Dir, name: &[u8], entry: &Entry, mode: Option<u32>) -> Result<(), Failure> {
        let failed = |why| Failure::write("set the attributes of", &entry.path, why);
        if self.root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        } else {
            self.owners.set(&join(&parent.path, name), (entry.uid, entry.gid));
        }
        if let Some(mode) = mode {
            rustix::fs::chmodat(&parent.fd, name, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(failed)?;
        }
        utimensat(&parent.fd, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Makes a leaf that is new: where there is one already, it is removed first.
    fn fresh<T>(
        &mut self,
        parent: &Dir,
        name: &[u8],
        entry: &Entry,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Failure> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make().map_err(|why| Failure::write("make", &entry.path, why))
            }
            Err(Errno::NAMETOOLONG) => Err(Failure::name(&entry.path, Errno::NAMETOOLONG)),
            made => made.map_err(|why| Failure::write("make", &entry.path, why)),
        }
    }

    /// `.wh.NAME`: hides `name` of the layers below. What this layer itself has there stays.
    fn hide(&mut self, parent: &Dir, name: &[u8]) -> Result<(), Failure> {
        let path = join(&parent.path, name);
        let failed = |why: Errno| match why {
            Errno::NAMETOOLONG => Failure::name(&path, why),
            why => Failure::write("make a whiteout of", &path, why),
        };
        match mknodat(&parent.fd, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                let stat = statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    set_opaque(&open_beneath(&parent.fd, name).map_err(failed)?).map_err(failed)?;
                }
                Ok(())
            }
            made => made.map_err(failed),
        }
    }

    /// `.wh..wh..opq`: hides everything of the layers below in a directory.
    fn hide_all(&mut self, dir: &Rc<Dir>) -> Result<(), Failure> {
        if !dir.path.is_empty() {
            return set_opaque(&dir.fd).map_err(|why| Failure::write("hide what is below", &dir.path, why));
        }
        // overlayfs merges the roots of its layers whatever they say, so each name gets its own whiteout.
        for name in self.resolver.lower_root_names()? {
            self.hide(dir, &name)?;
        }
        Ok(())
    }

    /// Removes what this layer has under `name`, with all that is below it.
    fn remove(&mut self, parent: &Dir, name: &[u8]) -> Result<(), Failure> {
        self.resolver.forget();
        let path = join(&parent.path, name);
        self.owners.forget(&path);
        owners::remove_tree(&mut self.dirs, &path);
        remove_at(&parent.fd, name).map_err(|why| Failure::write("remove", &path, why))
    }

    /// Directories shown by a lower layer that this one had to make again belong to whom they did there.
    fn owners_of_lowers(&mut self) -> Result<(), Failure> {
        if self.root {
            return Ok(());
        }
        let mut wanted: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
        for (path, attributes) in &self.dirs {
            if let Some(lower) = attributes.owner_from {
                wanted.entry(lower).or_default().push(if path.is_empty() { b".".to_vec() } else { path.clone() });
            }
        }
        for (lower, paths) in wanted {
            let Some(list) = self.target.lowers.iter().rev().nth(lower).and_then(|lower| lower.owners.as_ref()) else {
                continue;
            };
            let paths: HashSet<&[u8]> = paths.iter().map(|path| &path[..]).collect();
            let found =
                owners::look_up(list, &paths).map_err(|why| Failure::write("read the owners below", b"", why))?;
            for (path, attributes) in &mut self.dirs {
                if attributes.owner_from == Some(lower) {
                    attributes.owner = found.get(path);
                }
            }
        }
        Ok(())
    }
}

/// A directory that no layer listed.
fn new_attributes() -> DirAttributes {
    DirAttributes { mode: 0o755, mtime: (0, 0), owner: (0, 0), owner_from: None }
}

/// A directory as a lower layer has it. Its owner there is real where root unpacked it, else in that layer's list.
fn lower_attributes(root: bool, lower: usize, stat: &rustix::fs::Stat) -> DirAttributes {
    let owner = if root { (stat.st_uid, stat.st_gid) } else { (0, 0) };
    let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    DirAttributes { mode: stat.st_mode & 0o7777, mtime, owner, owner_from: Some(lower) }
}

fn give(fd: &OwnedFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    }
}

fn open_beneath_path(path: &Path) -> Result<OwnedFd, Failure> {
    File::open(path).map(OwnedFd::from).map_err(|why| Failure::write("open", b"", why))
}

/// Removes a file or a directory with what is in it; nothing is followed. Depth is bounded by the resolver's.
fn remove_at(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let dir = open_beneath(parent, name)?;
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_at(&dir, name)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
