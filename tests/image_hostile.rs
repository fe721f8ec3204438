//! A corpus of hostile layers: each is refused with a message or contained, and nothing outside of its root is touched
//! (`Bench::unpack` compares a folder beside the store before and after).

#[path = "support/image.rs"]
mod support;
#[path = "support/unpack.rs"]
mod unpack;

use alien_core::image::Limits;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use support::{Head, Layer, Tar, gzip, report};
use unpack::{Bench, really_root, snapshot, tree};

/// An entry without contents.
fn kind(kind: u8, path: &str) -> Tar {
    Tar::default().head(&Head { kind, path: path.as_bytes(), ..Head::default() }, b"")
}

/// Changes the only header, and its checksum.
fn changed(mut tar: Tar, change: impl FnOnce(&mut [u8])) -> Tar {
    let header = &mut tar.bytes[..512];
    change(header);
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

/// A file whose name has a `prefix` field (POSIX ustar).
fn prefixed(prefix: &str, name: &str) -> Tar {
    changed(Tar::default().file(name, b"x"), |header| {
        header[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes())
    })
}

/// GNU's old sparse file: what is stored of it, and how large it is to be.
fn sparse(path: &str, size: u64, pieces: &[(u64, u64)]) -> Tar {
    let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
    let head = Head { kind: b'S', path: path.as_bytes(), size: Some(stored), ..Head::default() };
    let mut tar = changed(Tar::default().head(&head, b""), |header| {
        header[257..265].copy_from_slice(b"ustar  \0");
        header[329..345].fill(0);
        let mut number = |at: usize, value: u64| {
            header[at..at + 4].copy_from_slice(&[0x80, 0, 0, 0]);
            header[at + 4..at + 12].copy_from_slice(&value.to_be_bytes());
        };
        for (index, (at, length)) in pieces.iter().enumerate() {
            number(386 + index * 24, *at);
            number(398 + index * 24, *length);
        }
        number(483, size);
    });
    tar.bytes.resize(512 + stored.next_multiple_of(512) as usize, b'x');
    tar
}

/// Cases are told apart by their names.
fn assert_distinct<'a>(names: impl Iterator<Item = &'a str>, least: usize) {
    let all: Vec<&str> = names.collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    assert!(all.len() >= least, "{} cases", all.len());
}

#[test]
fn hostile_layers_are_refused_with_the_entry_and_a_reason() {
    let witness = Bench::new(Limits::default()).witness(); // only its shape: an absolute path
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
        ("a folder upwards", Tar::default().dir("../witness/new"), "`..`"),
        ("a symbolic link upwards", Tar::default().symlink("../witness/new", "x"), "`..`"),
        ("a hard link's own name upwards", Tar::default().file("a", b"x").hardlink("../witness/new", "a"), "`..`"),
        ("a fifo upwards", kind(b'6', "../witness/new"), "`..`"),
        ("a character device upwards", kind(b'3', "../witness/new"), "`..`"),
        ("a block device upwards", kind(b'4', "../witness/new"), "`..`"),
        ("a whiteout upwards", Tar::default().file("../.wh.witness", b""), "`..`"),
        ("an opaque mark upwards", Tar::default().file("../witness/.wh..wh..opq", b""), "`..`"),
        ("a sparse file upwards", sparse("../witness/new", 4096, &[(0, 512)]), "`..`"),
        ("upwards from the root", Tar::default().file("/../witness/new", b"x"), "`..`"),
        ("a prefix upwards", prefixed("../../witness", "new"), "`..`"),
        (
            "a long hard link upwards",
            Tar::default().hardlink("a", &format!("{}../../witness/file", "b/".repeat(60))),
            "`..`",
        ),
        (
            "a hard link through a chain of links outwards",
            Tar::default().symlink("a", "b").symlink("b", &witness).hardlink("x", "a/file"),
            "not in",
        ),
        ("a hard link to what comes later", Tar::default().hardlink("a", "b").file("b", b"x"), "not in this layer"),
        ("a hard link to a fifo", kind(b'6', "p").hardlink("a", "p"), "not a regular"),
        ("a hard link to a whiteout", Tar::default().file(".wh.a", b"").hardlink("x", "a"), "not a regular"),
        (
            "a hard link chain over its own start",
            Tar::default().file("d/f", b"").hardlink("e", "d/f").hardlink("d", "d/f"),
            "would replace",
        ),
        ("a folder below a fifo", kind(b'6', "p").dir("p/d"), "not a directory"),
        ("a whiteout below a file", Tar::default().file("f", b"").file("f/.wh.x", b""), "not a directory"),
        (
            "a loop of 41 links",
            (0..41)
                .fold(Tar::default(), |tar, n| tar.symlink(&format!("l{n}"), &format!("l{}", n + 1)))
                .file("l0/x", b""),
            "symbolic links",
        ),
        ("a name of 256 bytes", Tar::default().file(&"n".repeat(256), b""), "255 bytes"),
        ("a sparse file of a petabyte", sparse("a", 1 << 50, &[(0, 512)]), "the layer has more than"),
        (
            "a PAX size of a petabyte",
            Tar::default().pax(&[("size", b"1125899906842624")]).file("a", b""),
            "the layer has more than",
        ),
        (
            "a PAX header of 2 MB",
            Tar::default().pax(&[("comment", &vec![b'x'; 2 << 20])]).file("a", b""),
            "more than 1048576",
        ),
        (
            "a global PAX header of 2 MB",
            Tar::default().head(&Head { kind: b'g', path: b"g", ..Head::default() }, &vec![b'x'; 2 << 20]),
            "more than 1048576",
        ),
    ];
    assert_distinct(refused.iter().map(|(what, ..)| *what), 60);
    for (what, tar, part) in refused {
        let error = Bench::new(Limits::default()).unpack(vec![Layer::gzip(tar.end())]).expect_err(what);
        let error = report(error);
        assert_eq!(error.code, "IMAGE_UNSAFE", "{what}: {error}");
        assert!(error.message.contains(part) && error.context.contains_key("layer"), "{what}: {error}");
    }
}

#[test]
fn hostile_layers_that_mean_something_inside_are_contained() {
    let device = |kind, path: &'static [u8]| Tar::default().head(&Head { kind, path, ..Head::default() }, b"");
    let setuid = Tar::default().head(&Head { path: b"su", mode: 0o6755, ..Head::default() }, b"x");
    let long = "n".repeat(255);
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
        (
            "a whiteout through a chain of links outwards",
            Tar::default().symlink("l", "m").symlink("m", "../../witness").file("l/.wh.file", b""),
            tree(&[("l", "l m"), ("m", "l ../../witness"), ("witness", "d"), ("witness/file", "whiteout 0")]),
        ),
        (
            "a whiteout of a link outwards",
            Tar::default().symlink("l", "../../witness").file(".wh.l", b""),
            tree(&[("l", "l ../../witness")]),
        ),
        (
            "a whiteout and its file, in one layer",
            Tar::default().file("a", b"x").file(".wh.a", b""),
            tree(&[("a", "f x")]),
        ),
        ("a device that is called a whiteout", kind(b'3', ".wh.a"), tree(&[("a", "whiteout 0")])),
        ("a link that is called a whiteout", Tar::default().symlink(".wh.a", "/etc"), tree(&[("a", "whiteout 0")])),
        (
            "a device in a folder of its own",
            Tar::default()
                .dir("dev")
                .head(&Head { kind: b'3', path: b"dev/mem", device: (1, 1), ..Head::default() }, b""),
            tree(&[("dev", "d")]),
        ),
        (
            "the same file three times",
            Tar::default().file("a", b"1").file("a", b"2").file("a", b"3"),
            tree(&[("a", "f 3")]),
        ),
        (
            "the same folder twice",
            Tar::default().dir_mode("d", 0o700).file("d/x", b"x").dir("d"),
            tree(&[("d", "d"), ("d/x", "f x")]),
        ),
        (
            "a hard link whose file becomes a link outwards",
            Tar::default().file("a", b"x").hardlink("b", "a").symlink("a", "../../witness/file").file("b", b"y"),
            tree(&[("a", "l ../../witness/file"), ("b", "f y")]),
        ),
        (
            "a folder that becomes a link, and its files again",
            Tar::default().file("d/a", b"1").symlink("d", "e").file("d/a", b"2"),
            tree(&[("d", "l e"), ("e", "d"), ("e/a", "f 2")]),
        ),
        ("setuid and setgid", setuid, tree(&[("su", if really_root() { "f mode 6755" } else { "f x" })])),
        (
            "a name that is no UTF-8",
            Tar::default().head(&Head { path: b"caf\xe9", ..Head::default() }, b"x"),
            tree(&[("caf\u{fffd}", "f x")]),
        ),
        (
            "a PAX name that is no UTF-8",
            Tar::default().pax(&[("path", b"\xff\xfe")]).file("ok", b"x"),
            tree(&[("\u{fffd}\u{fffd}", "f x")]),
        ),
        (
            "a name with line breaks and escapes",
            Tar::default().file("a\n\x1b[2Jb\\c", b"x"),
            tree(&[("a\n\x1b[2Jb\\c", "f x")]),
        ),
        ("a name of 255 bytes", Tar::default().file(&long, b"x"), tree(&[(&long, "f x")])),
        ("a sparse file of 100 GiB", sparse("a", 100 << 30, &[(0, 512)]), tree(&[("a", "f 107374182400 bytes")])),
        (
            "a global PAX header with a path upwards",
            Tar::default()
                .head(&Head { kind: b'g', path: b"g", ..Head::default() }, b"28 path=../../witness/file\n")
                .file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        ("an empty PAX path", Tar::default().pax(&[("path", b"")]).file("a", b"x"), tree(&[("a", "f x")])),
        (
            "two PAX paths",
            Tar::default().pax(&[("path", b"../x"), ("path", b"b")]).file("a", b"x"),
            tree(&[("b", "f x")]),
        ),
        (
            "a PAX time beyond all time",
            Tar::default().pax(&[("mtime", b"99999999999999999")]).file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        (
            "a PAX link outwards, written through",
            Tar::default().pax(&[("linkpath", b"../../../witness")]).symlink("l", "ok").file("l/file", b"x"),
            tree(&[("l", "l ../../../witness"), ("witness", "d"), ("witness/file", "f x")]),
        ),
        (
            "a capability that is nonsense, and labels",
            Tar::default()
                .pax(&[("SCHILY.xattr.security.capability", b"nonsense"), ("SCHILY.xattr.security.selinux", b"x")])
                .file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        (
            "a long name with a zero byte and a way upwards behind it",
            Tar::default()
                .head(&Head { kind: b'L', path: b"L", ..Head::default() }, b"ok\0../../witness/file")
                .file("a", b"x"),
            tree(&[("ok", "f x")]),
        ),
        (
            "a folder with contents",
            Tar::default().head(&Head { path: b"d/", ..Head::default() }, b"contents").file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        (
            "a volume label and a part of one",
            kind(b'V', "v").head(&Head { kind: b'M', path: b"m", ..Head::default() }, b"mm").file("a", b"x"),
            tree(&[("a", "f x")]),
        ),
        ("the root by many names", Tar::default().dir(".").dir("./").dir("/").dir(".//."), tree(&[])),
    ];
    assert_distinct(contained.iter().map(|(what, ..)| *what), 40);
    for (what, tar, expected) in contained {
        let bench = Bench::new(Limits::default());
        let image = bench.unpack(vec![Layer::gzip(tar.end())]).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(snapshot(&image.layers[0]), expected, "{what}");
    }
}

#[test]
fn tars_that_say_two_things_are_corrupt() {
    let pax = |records: &[u8]| Tar::default().head(&Head { kind: b'x', path: b"p", ..Head::default() }, records);
    let cases: Vec<(&str, Tar, &str)> = vec![
        ("a PAX size of none over contents", Tar::default().pax(&[("size", b"0")]).file("a", b"contents"), "checksum"),
        (
            "a PAX owner that is nobody",
            Tar::default().pax(&[("uid", b"4294967295")]).file("a", b""),
            "impossible number",
        ),
        (
            "a PAX owner beyond 32 bits",
            Tar::default().pax(&[("gid", b"4294967296")]).file("a", b""),
            "impossible number",
        ),
        ("a PAX owner below zero", Tar::default().pax(&[("uid", b"-1")]).file("a", b""), "PAX"),
        (
            "two PAX headers of one entry",
            pax(b"9 path=a\n").pax(&[("path", b"b")]).file("c", b""),
            "two extension headers",
        ),
        ("a PAX header of nothing", Tar::default().file("a", b"").pax(&[("path", b"b")]), "behind an extension header"),
        ("a PAX record longer than its header", pax(b"99 path=a\n").file("a", b""), "PAX"),
        (
            "a PAX sparse file",
            Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("a", b""),
            "sparse file in PAX form",
        ),
        ("a sparse file whose pieces overlap", sparse("a", 4096, &[(0, 1024), (512, 512)]), "impossible map"),
        ("a sparse file whose pieces go backwards", sparse("a", 4096, &[(2048, 512), (0, 512)]), "impossible map"),
        ("a sparse file that ends behind its end", sparse("a", 512, &[(1024, 512)]), "impossible map"),
        (
            "a sparse file with pieces at the end of all numbers",
            sparse("a", u64::MAX, &[(u64::MAX - 1, 512)]),
            "impossible",
        ),
    ];
    assert_distinct(cases.iter().map(|(what, ..)| *what), 12);
    for (what, tar, part) in cases {
        let error = report(Bench::new(Limits::default()).unpack(vec![Layer::gzip(tar.end())]).expect_err(what));
        assert_eq!(error.code, "IMAGE_CORRUPT", "{what}: {error}");
        assert!(error.message.contains(part), "{what}: {error}");
    }
}

#[test]
fn a_layer_cannot_use_the_links_of_the_one_below() {
    let below = || Tar::default().symlink("l", "../../../witness").symlink("m", "l").file("f", b"x").end();
    let cases: Vec<(&str, Tar, BTreeMap<String, String>)> = vec![
        ("a file", Tar::default().file("l/file", b"x"), tree(&[("witness", "d"), ("witness/file", "f x")])),
        ("a file through two", Tar::default().file("m/new", b"x"), tree(&[("witness", "d"), ("witness/new", "f x")])),
        (
            "a whiteout",
            Tar::default().file("m/.wh.file", b""),
            tree(&[("witness", "d"), ("witness/file", "whiteout 0")]),
        ),
        ("an opaque mark", Tar::default().file("l/.wh..wh..opq", b""), tree(&[("witness", "d opaque")])),
        ("a folder", Tar::default().dir("l/folder"), tree(&[("witness", "d"), ("witness/folder", "d")])),
    ];
    for (what, tar, expected) in cases {
        let bench = Bench::new(Limits::default());
        let layers = vec![Layer::gzip(below()), Layer::gzip(tar.end())];
        let image = bench.unpack(layers).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(snapshot(&image.layers[1]), expected, "{what}");
    }
    let link = Layer::gzip(Tar::default().hardlink("a", "l/file").end());
    let error =
        report(Bench::new(Limits::default()).unpack(vec![Layer::gzip(below()), link]).expect_err("a hard link"));
    assert_eq!(error.code, "IMAGE_UNSAFE", "{error}");
    assert!(error.message.contains("not in this layer"), "{error}");
}

/// The stream is made of one compressed part that comes a hundred times: it is never whole in memory.
#[test]
fn a_million_entries_are_counted_and_cost_no_memory_each() {
    const PART: usize = 10_000;
    const PARTS: usize = 100;
    let part = (0..PART).fold(Tar::default(), |tar, _| tar.dir("d")).bytes;
    let end = Tar::default().end();
    let mut hasher = Sha256::new();
    (0..PARTS).for_each(|_| hasher.update(&part));
    hasher.update(&end);
    let diff_id = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = [gzip(&part).repeat(PARTS), gzip(&end)].concat();
    let layer = Layer { blob, diff_id, ..Layer::gzip(Vec::new()) };
    let limits = Limits { entries: (PART * PARTS - 1) as u64, ..Limits::default() };
    let error = report(Bench::new(limits).unpack(vec![layer.clone()]).expect_err("one too many"));
    assert_eq!(error.code, "IMAGE_UNSAFE", "{error}");
    assert!(error.message.contains("more than 999999 entries"), "{error}");
    let bench = Bench::new(Limits::default());
    let image = bench.unpack(vec![layer]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(snapshot(&image.layers[0]), tree(&[("d", "d")]));
}
