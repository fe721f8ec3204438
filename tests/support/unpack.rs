//! A store that a layer is unpacked into, and proof of what it became and that nothing else was touched.

#![allow(dead_code)] // each test file uses its part

use super::support::{Layer, LayoutDir, arch, assert_tidy, ensure};
use alien_core::image::{Error, Image, Limits, Options, Store, StoreOptions};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// A folder with a layout, a store and a witness that nothing may touch.
pub struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    pub fn new(limits: Limits) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("witness")).expect("a folder");
        std::fs::write(dir.path().join("witness/file"), "untouched").expect("writes");
        std::fs::create_dir(dir.path().join("witness/folder")).expect("a folder");
        std::os::unix::fs::symlink("file", dir.path().join("witness/link")).expect("a link");
        let store = Store::open_with(&dir.path().join("store"), StoreOptions { limits, ..StoreOptions::default() })
            .expect("opens");
        Bench { dir, store }
    }

    pub fn witness(&self) -> String {
        self.dir.path().join("witness").display().to_string()
    }

    pub fn unpack(&self, layers: Vec<Layer>) -> Result<Image, Error> {
        let before = canary(&self.dir.path().join("witness"));
        let mut layout = LayoutDir::new(&self.dir.path().join("layout"));
        let image = layout.image(&layers, arch());
        layout.tag(image, "t");
        let image = ensure(&self.store, &layout.reference("t"), &Options::default());
        assert_eq!(canary(&self.dir.path().join("witness")), before, "something outside was touched");
        assert_tidy(&self.dir.path().join("store"));
        let top: Vec<_> = std::fs::read_dir(self.dir.path().join("store")).expect("store").flatten().collect();
        assert_eq!(top.len(), 7, "the store holds blobs, layers, leases, partial, prune.lock, refs and tmp: {top:?}");
        if image.is_err() {
            let left = std::fs::read_dir(self.store.layers_dir()).expect("layers").flatten();
            let left = left.filter(|entry| entry.path().is_dir()).count();
            assert!(left < layers.len(), "a refused layer was kept");
        }
        image
    }
}

/// Every path below `dir` with its kind and contents.
pub fn snapshot(dir: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("reads").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("is below").to_string_lossy().into_owned();
            let meta = entry.metadata().expect("has attributes");
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                let mut value = [0; 1];
                let opaque = rustix::fs::lgetxattr(&path, "user.overlay.opaque", &mut value[..]).is_ok();
                walk(root, &path, found);
                if opaque { "d opaque".to_owned() } else { "d".to_owned() }
            } else if kind.is_symlink() {
                format!("l {}", std::fs::read_link(&path).expect("a link").display())
            } else if kind.is_char_device() {
                format!("whiteout {}", meta.rdev())
            } else if kind.is_fifo() {
                "p".to_owned()
            } else if meta.permissions().mode() & 0o6000 != 0 {
                format!("f mode {:o}", meta.permissions().mode() & 0o7777)
            } else if meta.len() > 1000 {
                format!("f {} bytes", meta.len())
            } else {
                format!("f {}", String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()))
            };
            found.insert(name, what);
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

pub fn tree(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
}

/// What is in the witness, with every attribute that an unpacked layer could have changed: another link to a file
/// shows in its count, another owner or mode in the time of its change.
fn canary(dir: &Path) -> BTreeMap<String, String> {
    let mut found = snapshot(dir);
    for (name, what) in &mut found {
        let meta = std::fs::symlink_metadata(dir.join(name)).expect("is there");
        let (ino, links, mode, uid) = (meta.ino(), meta.nlink(), meta.mode(), meta.uid());
        *what = format!("{what} {ino} {links} {mode:o} {uid} {}.{}", meta.ctime(), meta.ctime_nsec());
    }
    let meta = std::fs::metadata(dir).expect("is there");
    found.insert(String::new(), format!("{:o} {} {}.{}", meta.mode(), meta.uid(), meta.ctime(), meta.ctime_nsec()));
    found
}

pub fn really_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
