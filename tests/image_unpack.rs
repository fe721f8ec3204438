//! Unpacking, through the store: what honest layers become, and that hostile ones reach nothing outside.

#[path = "support/image.rs"]
mod support;

use alien_core::image::{Error, Image, Limits, Options, Store};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::{Head, Layer, LayoutDir, Tar, arch, assert_tidy, ensure, report};

/// A folder with a layout, a store and a witness that nothing may touch.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("witness")).expect("a folder");
        std::fs::write(dir.path().join("witness/file"), "untouched").expect("writes");
        let store = Store::open_with(&dir.path().join("store"), limits).expect("opens");
        Bench { dir, store }
    }

    fn witness(&self) -> String {
        self.dir.path().join("witness").display().to_string()
    }

    fn unpack(&self, layers: Vec<Layer>) -> Result<Image, Error> {
        let mut layout = LayoutDir::new(&self.dir.path().join("layout"));
        let image = layout.image(&layers, arch());
        layout.tag(image, "t");
        let image = ensure(&self.store, &layout.reference("t"), &Options::default());
        assert_eq!(snapshot(&self.dir.path().join("witness")), BTreeMap::from([("file".into(), "f untouched".into())]));
        assert_tidy(&self.dir.path().join("store"));
        let top: Vec<_> = std::fs::read_dir(self.dir.path().join("store")).expect("store").flatten().collect();
        assert_eq!(top.len(), 4, "the store holds blobs, layers, refs and tmp: {top:?}");
        if image.is_err() {
            let left = std::fs::read_dir(self.store.layers_dir()).expect("layers").count();
            assert!(left < layers.len(), "a refused layer was kept");
        }
        image
    }
}

/// Every path below `dir` with its kind and contents.
fn snapshot(dir: &Path) -> BTreeMap<String, String> {
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

fn tree(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
}

/// Unpacks layers and returns what each became.
fn unpacked(layers: Vec<Vec<u8>>) -> Vec<BTreeMap<String, String>> {
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(layers.into_iter().map(Layer::gzip).collect()).unwrap_or_else(|why| panic!("{why}"));
    image.layers.iter().map(|layer| snapshot(layer)).collect()
}

#[test]
fn hostile_layers_are_contained_or_refused() {
    let witness = Bench::new(Limits::default()).witness(); // only its shape: an absolute path
    let device = |kind, path: &'static [u8]| Tar::default().head(&Head { kind, path, ..Head::default() }, b"");
    let deep = "d/".repeat(300) + "f";
    let long_name = "n".repeat(300);
    let long_path = "0123456789/".repeat(400);
    let long_target = "t".repeat(5000);
    let refused: Vec<(&str, Tar, &str)> = vec![
        ("a path upwards", Tar::default().file("../witness/file", b"x"), "`..`"),
        ("a path upwards further in", Tar::default().file("a/../../witness/file", b"x"), "`..`"),
        ("only upwards", Tar::default().dir(".."), "`..`"),
        ("a long name upwards", Tar::default().file(&format!("{}../x", "a/".repeat(80)), b"x"), "`..`"),
        ("a PAX path upwards", Tar::default().pax(&[("path", b"../../witness/file")]).file("ok", b"x"), "`..`"),
        ("a PAX link upwards", Tar::default().pax(&[("linkpath", b"../witness/file")]).hardlink("a", "b"), "`..`"),
        ("a hard link upwards", Tar::default().hardlink("a", "../witness/file"), "`..`"),
        (
            "a hard link to an absolute path",
            Tar::default().hardlink("a", &format!("{witness}/file")),
            "not in this layer",
        ),
        (
            "a hard link to a symbolic link",
            Tar::default().symlink("l", "/etc/passwd").hardlink("a", "l"),
            "not a regular",
        ),
        ("a hard link to a directory", Tar::default().dir("d").hardlink("a", "d"), "not a regular"),
        ("a hard link to the root", Tar::default().hardlink("a", "/"), "to a directory"),
        (
            "a hard link through a link outwards",
            Tar::default().symlink("l", &witness).hardlink("a", "l/file"),
            "not in",
        ),
        (
            "a hard link over its target's parent",
            Tar::default().file("d/f", b"x").hardlink("d", "d/f"),
            "would replace",
        ),
        ("a file below a file", Tar::default().file("f", b"x").file("f/g", b"x"), "not a directory"),
        ("a loop of links", Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", b"x"), "symbolic links"),
        ("a link to itself", Tar::default().symlink("a", "a").file("a/x", b"x"), "symbolic links"),
        ("a whiteout of nothing", Tar::default().file(".wh.", b""), "whiteout of no file"),
        ("a whiteout of ..", Tar::default().dir("a").file("a/.wh...", b""), "whiteout of no file"),
        ("a whiteout of .", Tar::default().file("a/.wh..", b""), "whiteout of no file"),
        ("a whiteout of a whiteout", Tar::default().file(".wh..wh.a", b""), "whiteout of no file"),
        ("a file in a whiteout", Tar::default().file(".wh.a/b", b""), "is a whiteout"),
        ("a whiteout directory", Tar::default().dir(".wh./"), "whiteout of no file"),
        ("a file as the root", Tar::default().file("./", b"").symlink("/", "/etc"), "image's root"),
        ("a zero byte in a PAX path", Tar::default().pax(&[("path", b"a\0b")]).file("ok", b"x"), "zero byte"),
        ("an empty link target", Tar::default().symlink("a", ""), "without a target"),
        ("a link target of 5,000 bytes", Tar::default().symlink("a", &long_target), "4095"),
        ("a part of 300 bytes", Tar::default().file(&long_name, b"x"), "255 bytes"),
        ("a parent of 300 bytes", Tar::default().file(&format!("{long_name}/a"), b"x"), "255 bytes"),
        ("a whiteout of 300 bytes", Tar::default().file(&format!(".wh.{long_name}"), b"x"), "255 bytes"),
        ("a path of 4,400 bytes", Tar::default().file(&long_path, b"x"), "4095"),
        ("300 directories", Tar::default().file(&deep, b"x"), "deeper than 256"),
        (
            "300 directories by links",
            Tar::default().symlink("l", &"d/".repeat(200)).file(&format!("l/{}f", "e/".repeat(100)), b"x"),
            "deeper than 256",
        ),
        (
            "a name of 8 MB",
            Tar::default()
                .head(&Head { kind: b'L', path: b"L", ..Head::default() }, &vec![b'a'; 8 << 20])
                .file("a", b""),
            "more than 1048576",
        ),
        (
            "a name that claims 8 EB",
            Tar::default().head(&Head { kind: b'L', path: b"L", size: Some(1 << 62), ..Head::default() }, b""),
            "more than 1048576",
        ),
        (
            "a file that claims 8 EB",
            Tar::default().head(&Head { path: b"a", size: Some(1 << 62), ..Head::default() }, b""),
            "the layer has more than",
        ),
    ];
    for (what, tar, part) in refused {
        let error = Bench::new(Limits::default()).unpack(vec![Layer::gzip(tar.end())]).expect_err(what);
        let error = report(error);
        assert_eq!(error.code, "IMAGE_UNSAFE", "{what}: {error}");
        assert!(error.message.contains(part) && error.context.contains_key("layer"), "{what}: {error}");
    }

    let contained: Vec<(&str, Tar, BTreeMap<String, String>)> = vec![
        ("an absolute path", Tar::default().file("/etc/x", b"x"), tree(&[("etc", "d"), ("etc/x", "f x")])),
        (
            "a write through a link upwards",
            Tar::default().symlink("l", "../../../../witness").file("l/file", b"x"),
            tree(&[("l", "l ../../../../witness"), ("witness", "d"), ("witness/file", "f x")]),
        ),
        ("a write over a link", Tar::default().symlink("l", "/etc/passwd").file("l", b"x"), tree(&[("l", "f x")])),
        (
            "a directory over a link to a directory",
            Tar::default().dir("d").symlink("l", "d").dir("l").file("l/x", b"x"),
            tree(&[("d", "d"), ("l", "d opaque"), ("l/x", "f x")]),
        ),
        (
            "a chain of links",
            Tar::default()
                .symlink("a", "b/..")
                .symlink("b", "/c")
                .symlink("c", "../../d")
                .file("a/x", b"x")
                .file("b/y", b"y"),
            tree(&[("a", "l b/.."), ("b", "l /c"), ("c", "l ../../d"), ("d", "d"), ("d/y", "f y"), ("x", "f x")]),
        ),
        (
            "file, then directory, then link, then file below it",
            Tar::default().file("a", b"1").dir("a").file("a/b", b"2").symlink("a", "/tmp").file("a/c", b"3"),
            tree(&[("a", "l /tmp"), ("tmp", "d"), ("tmp/c", "f 3")]),
        ),
        (
            "a whiteout through a link",
            Tar::default().symlink("l", "/sub").file("l/.wh.file", b""),
            tree(&[("l", "l /sub"), ("sub", "d"), ("sub/file", "whiteout 0")]),
        ),
        (
            "an opaque mark through a link outwards",
            Tar::default().symlink("l", "../../witness").file("l/.wh..wh..opq", b""),
            tree(&[("l", "l ../../witness"), ("witness", "d opaque")]),
        ),
        ("a character device", device(b'3', b"null"), tree(&[])),
        ("a forged whiteout", device(b'3', b"bin"), tree(&[])),
        ("a block device", device(b'4', b"sda"), tree(&[])),
        (
            "a device over a file",
            Tar::default().file("a", b"x").head(&Head { kind: b'3', path: b"a", ..Head::default() }, b""),
            tree(&[("a", "f x")]),
        ),
        (
            "forged overlay attributes",
            Tar::default()
                .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y"), ("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .dir("d")
                .pax(&[
                    ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
                    ("LIBARCHIVE.xattr.user.overlay.opaque", b"eQ=="),
                ])
                .dir("e"),
            tree(&[("d", "d"), ("e", "d")]),
        ),
        (
            "what aufs left",
            Tar::default().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"").file(".wh..wh.aufs", b""),
            tree(&[]),
        ),
        (
            "a kind that nobody knows",
            Tar::default().head(&Head { kind: b'Z', path: b"z", ..Head::default() }, b"zz").file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        (
            "a hard link with a size",
            Tar::default()
                .file("a", b"x")
                .head(&Head { kind: b'1', path: b"b", link: b"a", size: Some(512), ..Head::default() }, b"")
                .file("c", b"y"),
            tree(&[("a", "f x"), ("b", "f x"), ("c", "f y")]),
        ),
        ("a hard link to itself", Tar::default().file("a", b"x").hardlink("a", "./a"), tree(&[("a", "f x")])),
        ("odd spellings", Tar::default().file(".//a/./b", b"x"), tree(&[("a", "d"), ("a/b", "f x")])),
        (
            "a write through a hard link",
            Tar::default().file("a", b"x").hardlink("b", "a").file("b", b"y"),
            tree(&[("a", "f x"), ("b", "f y")]),
        ),
        ("a fifo", device(b'6', b"pipe"), tree(&[("pipe", "p")])),
    ];
    for (what, tar, expected) in contained {
        let bench = Bench::new(Limits::default());
        let image = bench.unpack(vec![Layer::gzip(tar.end())]).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(snapshot(&image.layers[0]), expected, "{what}");
    }
}

#[test]
fn limits_hold_in_the_middle_of_a_layer() {
    let limits = Limits { entries: 100, bytes: 8 << 20, ratio: 50, ratio_from: 1 << 20, names: 10_000 };
    let many = (0..200).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), b""));
    let names = (0..90).fold(Tar::default(), |tar, n| tar.file(&format!("{n}{}", "x".repeat(150)), b""));
    let noise: Vec<u8> = (0_u32..9 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (what, layer, part) in [
        ("entries", Layer::gzip(many.end()), "more than 100 entries"),
        ("names", Layer::gzip(names.end()), "more than 10000 bytes"),
        ("bytes", Layer::plain(Tar::default().file("a", &noise).end()), "more than 8388608"),
        ("a gzip bomb", Layer::gzip(Tar::default().file("a", &vec![0; 7 << 20]).end()), "bomb"),
        ("a zstd bomb", Layer::zstd(Tar::default().file("a", &vec![0; 7 << 20]).end()), "bomb"),
        ("a bomb behind the end", Layer::zstd([Tar::default().end(), vec![0; 7 << 20]].concat()), "bomb"),
    ] {
        let error = report(Bench::new(limits.clone()).unpack(vec![layer]).expect_err(what));
        assert_eq!(error.code, "IMAGE_UNSAFE", "{what}: {error}");
        assert!(error.message.contains(part), "{what}: {error}");
    }
}

#[test]
fn damaged_layers_are_corrupt() {
    let good = || Tar::default().file("a", b"hello").end();
    let with = |change: &dyn Fn(&mut Layer)| {
        let mut layer = Layer::gzip(good());
        change(&mut layer);
        layer
    };
    let mut checksum = good();
    checksum[148] = b'9';
    for (what, layer, part) in [
        ("another diff id", with(&|layer| layer.diff_id = "0".repeat(64)), "uncompressed"),
        ("a cut gzip stream", with(&|layer| layer.blob.truncate(40)), "layer sha256:"),
        ("garbage behind gzip", with(&|layer| layer.blob.extend_from_slice(b"garbage")), "layer sha256:"),
        ("a wrong checksum", Layer::gzip(checksum), "checksum"),
        ("no tar at all", Layer::gzip(vec![b'x'; 2000]), "checksum"),
        ("a cut tar", Layer::gzip(good()[..700].to_vec()), "middle of a file"),
        ("a cut header", Layer::gzip(good()[..300].to_vec()), "middle of a header"),
        ("a zstd magic with nothing behind", Layer::plain(vec![0x28, 0xb5, 0x2f, 0xfd, 1, 2]), "layer sha256:"),
        (
            "malformed PAX",
            Layer::gzip(
                Tar::default().head(&Head { kind: b'x', path: b"p", ..Head::default() }, b"9x\n").file("a", b"").end(),
            ),
            "PAX",
        ),
    ] {
        let error = report(Bench::new(Limits::default()).unpack(vec![layer]).expect_err(what));
        assert_eq!(error.code, "IMAGE_CORRUPT", "{what}: {error}");
        assert!(error.message.contains(part), "{what}: {error}");
    }
}

#[test]
fn all_compressions_and_what_is_behind_the_end() {
    let tar = Tar::default().file("a", b"hello").end();
    let padded = [&tar[..], &vec![0; 9000]].concat();
    let members = [support::gzip(&tar[..700]), support::gzip(&tar[700..])].concat();
    let gzip = Layer::gzip(tar.clone());
    let docker = Layer { media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip".into(), ..gzip.clone() };
    for layer in [
        Layer::plain(tar.clone()),
        Layer::zstd(tar.clone()),
        Layer::gzip(padded),
        Layer { blob: members, ..gzip.clone() },
        // What a layer is, its bytes say.
        Layer { media_type: "application/vnd.oci.image.layer.v1.tar+zstd".into(), ..gzip.clone() },
        docker,
        gzip,
    ] {
        let image = Bench::new(Limits::default()).unpack(vec![layer]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(image.layers.len(), 1);
    }
}

#[test]
fn whiteouts_hide_what_is_below_and_only_that() {
    let lower = Tar::default().file("a", b"1").file("d/x", b"1").file("d/y", b"1").file("e/z", b"1").end();
    let upper = Tar::default()
        .file(".wh.a", b"")
        .file("d/.wh.x", b"")
        .file("e/.wh..wh..opq", b"")
        .file("e/new", b"2")
        // Files of the same layer are not hidden by its whiteouts, in whatever order they come.
        .file("d/y", b"2")
        .file("d/.wh.y", b"")
        .file("f/g", b"2")
        .file(".wh.f", b"")
        .end();
    let replaced = Tar::default().file(".wh.d", b"").dir("d").file("d/only", b"3").end();
    let layers = unpacked(vec![lower, upper, replaced]);
    let expected = tree(&[
        ("a", "whiteout 0"),
        ("d", "d"),
        ("d/x", "whiteout 0"),
        ("d/y", "f 2"),
        ("e", "d opaque"),
        ("e/new", "f 2"),
        ("f", "d opaque"),
        ("f/g", "f 2"),
    ]);
    assert_eq!(layers[1], expected);
    assert_eq!(layers[2], tree(&[("d", "d opaque"), ("d/only", "f 3")]));
}

#[test]
fn an_opaque_root_hides_every_name_below() {
    let lower = Tar::default().file("a", b"1").file("d/x", b"1").end();
    let upper = Tar::default().file("d/new", b"2").file(".wh..wh..opq", b"").file("b", b"2").end();
    let layers = unpacked(vec![lower, upper]);
    assert_eq!(layers[1], tree(&[("a", "whiteout 0"), ("b", "f 2"), ("d", "d opaque"), ("d/new", "f 2")]));
}

#[test]
fn a_link_of_a_lower_layer_leads_where_it_does_when_applied() {
    let lower = Tar::default().dir("usr/bin").symlink("bin", "usr/bin").symlink("abs", "/usr/bin").end();
    let upper = Tar::default().file("bin/foo", b"2").file("abs/bar", b"2").file("abs/.wh.old", b"").end();
    let hides = Tar::default().file(".wh.bin", b"").file("bin/own", b"3").end();
    let directory = Tar::default().dir("abs").file("abs/own", b"4").end();
    let layers = unpacked(vec![lower, upper, hides, directory]);
    let merged = tree(&[
        ("usr", "d"),
        ("usr/bin", "d"),
        ("usr/bin/bar", "f 2"),
        ("usr/bin/foo", "f 2"),
        ("usr/bin/old", "whiteout 0"),
    ]);
    assert_eq!(layers[1], merged);
    // Removed first, it is a directory of its own.
    assert_eq!(layers[2], tree(&[("bin", "d opaque"), ("bin/own", "f 3")]));
    // A directory that the layer lists takes the link's place.
    assert_eq!(layers[3], tree(&[("abs", "d"), ("abs/own", "f 4")]));
}

#[test]
fn a_parent_that_is_not_listed_is_as_it_is_below() {
    let lower = Tar::default()
        .head(&Head { kind: b'5', path: b"srv", mode: 0o1777, owner: (1000, 1001), ..Head::default() }, b"")
        .end();
    let upper = Tar::default().owned("srv/new/file", 7, 8).end();
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(vec![Layer::gzip(lower), Layer::gzip(upper)]).unwrap_or_else(|why| panic!("{why}"));
    let top = &image.layers[1];
    let srv = std::fs::metadata(top.join("srv")).expect("is there");
    assert_eq!((srv.mode() & 0o7777, srv.mtime()), (0o1777, 1_700_000_000));
    assert_eq!(std::fs::metadata(top.join("srv/new")).expect("is there").mode() & 0o7777, 0o755);
    if image.owners.is_empty() {
        assert_eq!((srv.uid(), srv.gid()), (1000, 1001));
        assert_eq!(std::fs::metadata(top.join("srv/new/file")).expect("is there").uid(), 7);
    } else {
        let list = std::fs::read(&image.owners[1]).expect("a list");
        assert_eq!(list, b"1000 1001 srv\x007 8 srv/new/file\0");
    }
}

#[test]
fn attributes_are_kept_as_far_as_this_user_may() {
    let names: &[u8] = b"caf\xe9";
    let tar = Tar::default()
        .dir_mode("sealed", 0o555)
        .file("sealed/in", b"x")
        .dir_mode("sealed/more", 0o500)
        .file("sealed/more/in", b"x")
        .head(&Head { path: b"su", mode: 0o6755, ..Head::default() }, b"x")
        .head(&Head { path: names, mode: 0o640, ..Head::default() }, b"x")
        .pax(&[
            ("mtime", b"1600000000.25"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ])
        .file("cap", b"x")
        .end();
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(vec![Layer::zstd(tar)]).unwrap_or_else(|why| panic!("{why}"));
    let layer = &image.layers[0];
    let mode = |name: &str| std::fs::symlink_metadata(layer.join(name)).expect(name).permissions().mode() & 0o7777;
    assert_eq!((mode("sealed"), mode("sealed/more")), (0o555, 0o500));
    let root = really_root();
    assert_eq!(mode("su"), if root { 0o6755 } else { 0o755 });
    let odd: PathBuf = layer.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(names));
    assert_eq!(std::fs::metadata(odd).expect("the name's bytes").mode() & 0o7777, 0o640);
    let cap = std::fs::metadata(layer.join("cap")).expect("cap");
    assert_eq!((cap.mtime(), cap.mtime_nsec()), (1_600_000_000, 250_000_000));
    let mut value = [0; 64];
    let found = rustix::fs::lgetxattr(layer.join("cap"), "security.capability", &mut value[..]);
    assert_eq!(found.is_ok(), root);
}

fn really_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[test]
fn owners_are_listed_for_an_ordinary_user_and_real_for_root() {
    let tar = Tar::default()
        .owned("a", 5, 6)
        .owned("gone/b", 5, 6)
        .file("gone", b"")
        .owned("kept", 5, 6)
        .file("kept", b"")
        .hardlink("link", "a")
        .head(&Head { kind: b'2', path: b"sym", link: b"a", owner: (9, 0), ..Head::default() }, b"")
        .end();
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(vec![Layer::gzip(tar)]).unwrap_or_else(|why| panic!("{why}"));
    if really_root() {
        assert!(image.owners.is_empty());
        let owner = |name: &str| std::fs::symlink_metadata(image.layers[0].join(name)).map(|m| (m.uid(), m.gid()));
        assert_eq!(owner("a").expect("a"), (5, 6));
        assert_eq!(owner("sym").expect("sym"), (9, 0));
        assert_eq!(owner("kept").expect("kept"), (0, 0));
    } else {
        assert_eq!(std::fs::read(&image.owners[0]).expect("a list"), b"5 6 a\x005 6 link\x009 0 sym\0");
    }
}

#[test]
fn an_old_gnu_sparse_file_has_its_holes() {
    // Two pieces of 512 bytes in a file of 2 MB.
    let mut header =
        Tar::default().head(&Head { kind: b'S', path: b"sparse", size: Some(1024), ..Head::default() }, b"").bytes;
    header[257..265].copy_from_slice(b"ustar  \0");
    header[329..345].fill(0);
    let mut octal = |at: usize, value: u64| header[at..at + 12].copy_from_slice(format!("{value:011o}\0").as_bytes());
    for (at, value) in [(386, 0), (398, 512), (410, 1 << 20), (422, 512), (483, 2 << 20)] {
        octal(at, value);
    }
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let data = [vec![b'a'; 512], vec![b'b'; 512]].concat();
    let tar = Tar { bytes: [header, data].concat() }.file("next", b"x").end();
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(vec![Layer::gzip(tar)]).unwrap_or_else(|why| panic!("{why}"));
    let sparse = std::fs::read(image.layers[0].join("sparse")).expect("is there");
    assert_eq!(sparse.len(), 2 << 20);
    assert_eq!((sparse[511], sparse[512], sparse[1 << 20], sparse[(1 << 20) + 512]), (b'a', 0, b'b', 0));
    assert!(image.layers[0].join("next").exists());
}

mod any_entries {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    struct Item {
        kind: u8,
        path: Vec<&'static str>,
        link: Vec<&'static str>,
        absolute: bool,
    }

    fn item() -> impl Strategy<Value = Item> {
        let part = || prop::sample::select(vec!["a", "b", "c", "..", ".", "witness", ".wh.a", ".wh..wh..opq", "store"]);
        let safe = || prop::sample::select(vec!["a", "b", "c", ".", "witness", ".wh.a", ".wh.b", ".wh..wh..opq"]);
        let kind = prop::sample::select(b"0122235556".to_vec());
        (kind, prop::collection::vec(safe(), 1..4), prop::collection::vec(part(), 1..6), any::<bool>())
            .prop_map(|(kind, path, link, absolute)| Item { kind, path, link, absolute })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever order of entries: the store's `layers` is all that changes, and no real directory is reached
        /// through a link (Bench::unpack looks at everything around).
        #[test]
        fn nothing_outside_is_touched(layers in prop::collection::vec(prop::collection::vec(item(), 1..12), 1..4)) {
            let bench = Bench::new(Limits::default());
            // The links' way out of the layer, counted from its root in tmp and in layers.
            let out = format!("../../../{}", if layers.len() % 2 == 0 { "../" } else { "" });
            let layers = layers.iter().map(|items| {
                let tar = items.iter().fold(Tar::default(), |tar, item| {
                    let path = item.path.join("/");
                    let link = item.link.join("/");
                    let link = match item.absolute {
                        true => format!("{}/{link}", bench.witness()),
                        false if item.kind == b'2' => format!("{out}{link}"),
                        false => link,
                    };
                    let head = Head { kind: item.kind, path: path.as_bytes(), link: link.as_bytes(), ..Head::default() };
                    tar.head(&head, if item.kind == b'0' { b"contents" } else { b"" })
                });
                Layer::plain(tar.end())
            });
            match bench.unpack(layers.collect()) {
                Ok(_) | Err(Error::Unsafe { .. }) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
