//! Unpacking, through the store: what honest layers become, and that hostile ones reach nothing outside.

#[path = "support/image.rs"]
mod support;
#[path = "support/unpack.rs"]
mod unpack;

use alien_core::image::{Error, Limits};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use support::{Head, Layer, Tar, report};
use unpack::{Bench, really_root, snapshot, tree};

/// Unpacks layers and returns what each became.
fn unpacked(layers: Vec<Vec<u8>>) -> Vec<BTreeMap<String, String>> {
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(layers.into_iter().map(Layer::gzip).collect()).unwrap_or_else(|why| panic!("{why}"));
    image.layers.iter().map(|layer| snapshot(layer)).collect()
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
