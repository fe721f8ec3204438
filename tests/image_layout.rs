//! Image layouts: folders and archives, tags, and what a damaged one says.

#[path = "support/image.rs"]
mod support;

use alien_core::image::Options;
use std::path::Path;
use support::*;

fn image(layout: &LayoutDir, contents: &str) -> serde_json::Value {
    layout.image(&[Layer::gzip(Tar::default().file("a", contents.as_bytes()).end())], arch())
}

/// Packs a layout's folder as skopeo does, with `prefix` before each name.
fn archive(layout: &Path, file: &Path, prefix: &str) {
    fn add(tar: Tar, dir: &Path, prefix: &str) -> Tar {
        let entries = std::fs::read_dir(dir).expect("reads").flatten();
        entries.fold(tar, |tar, entry| {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => add(tar.dir(&format!("{name}/")), &entry.path(), &format!("{name}/")),
                false => tar.file(&name, &std::fs::read(entry.path()).expect("reads")),
            }
        })
    }
    std::fs::write(file, add(Tar::default(), layout, prefix).end()).expect("writes");
}

impl Bench {
    fn contents(&self, reference: &str) -> String {
        let image =
            ensure(&self.store, reference, &Options::default()).unwrap_or_else(|why| panic!("{reference}: {why}"));
        std::fs::read_to_string(image.layers[0].join("a")).expect("unpacked")
    }

    fn refused(&self, reference: &str, code: &str, part: &str) {
        let error = report(ensure(&self.store, reference, &Options::default()).expect_err(reference));
        assert_eq!(error.code, code, "{reference}: {error}");
        assert!(error.message.contains(part), "{reference}: {error}");
        assert_tidy(&self.path("store"));
    }
}

#[test]
fn tags_name_images_of_a_folder_and_of_an_archive() {
    let bench = Bench::new();
    let mut layout = LayoutDir::new(&bench.path("layout"));
    let name = |scheme: &str, file: &str| format!("{scheme}:{}", bench.path(file).display());
    layout.tag(image(&layout, "one"), "one");
    assert_eq!(bench.contents(&name("oci", "layout")), "one", "the only image needs no tag");
    archive(&layout.dir, &bench.path("one.tar"), "./");
    assert_eq!(bench.contents(&name("oci-archive", "one.tar")), "one");

    layout.tag(image(&layout, "two"), "two");
    archive(&layout.dir, &bench.path("two.tar"), "");
    for (scheme, file) in [("oci", "layout"), ("oci-archive", "two.tar")] {
        let reference = name(scheme, file);
        assert_eq!(bench.contents(&format!("{reference}:two")), "two");
        bench.refused(&format!("{reference}:three"), "IMAGE_NOT_FOUND", "has the tags one, two, not three");
        bench.refused(&reference, "IMAGE_NOT_FOUND", "name one of them behind the path");
    }
}

#[test]
fn an_image_that_is_unpacked_is_not_read_again() {
    let bench = Bench::new();
    let mut layout = LayoutDir::new(&bench.path("layout"));
    let digest = layout.tag(image(&layout, "one"), "one");
    let reference = layout.reference("one");
    assert_eq!(bench.contents(&reference), "one");
    let layer = Layer::gzip(Tar::default().file("a", b"one").end());
    std::fs::remove_file(layout.dir.join("blobs/sha256").join(sha256(&layer.blob))).expect("removes");
    let again = ensure(&bench.store, &reference, &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(again.digest, digest);
    let resolved = run(bench.store.resolve(&parse(&reference), &Options::default())).expect("resolves");
    assert!(resolved.cached);
    // A layer that somebody removed is made again, or its absence said.
    std::fs::remove_dir_all(&again.layers[0]).expect("removes");
    bench.refused(&reference, "IMAGE_NOT_FOUND", "No such file");
}

#[test]
fn what_is_wrong_with_a_layout_is_said() {
    let bench = Bench::new();
    let name = |file: &str| format!("oci:{}", bench.path(file).display());
    bench.refused(&name("nothing"), "IMAGE_NOT_FOUND", "index.json cannot be read: No such file");
    bench.refused(&name("nothing").replace("oci:", "oci-archive:"), "IMAGE_NOT_FOUND", "No such file");

    let mut layout = LayoutDir::new(&bench.path("layout"));
    let descriptor = image(&layout, "one");
    let blob = layout.dir.join("blobs/sha256").join(&descriptor["digest"].as_str().expect("a digest")[7..]);
    layout.tag(descriptor, "one");
    let manifest = std::fs::read_to_string(&blob).expect("reads");
    std::fs::write(&blob, manifest.replace("\"layers\"", "\"lAyers\"")).expect("writes");
    bench.refused(&layout.reference("one"), "IMAGE_CORRUPT", "has the digest");
    std::fs::write(&blob, manifest).expect("writes");

    let layer = Layer::gzip(Tar::default().file("a", b"one").end());
    let path = layout.dir.join("blobs/sha256").join(sha256(&layer.blob));
    std::fs::write(&path, &layer.blob[1..]).expect("writes");
    bench.refused(&layout.reference("one"), "IMAGE_CORRUPT", "its manifest says");
    let mut spoilt = layer.blob.clone();
    spoilt[4] ^= 1; // the time in the gzip header: the same contents, another blob
    std::fs::write(&path, spoilt).expect("writes");
    bench.refused(&layout.reference("one"), "IMAGE_CORRUPT", "its digest is");
    std::fs::write(&path, &layer.blob).expect("writes");
    assert_eq!(bench.contents(&layout.reference("one")), "one");

    for (text, code, part) in [
        ("{", "IMAGE_CORRUPT", "not valid"),
        (r#"{"manifests":[]}"#, "IMAGE_NOT_FOUND", "no tags"),
        (r#"{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}"#, "IMAGE_CORRUPT", "64 lower-case hex"),
    ] {
        std::fs::write(layout.dir.join("index.json"), text).expect("writes");
        bench.refused(&layout.reference("one"), code, part);
    }
    std::fs::write(bench.path("packed.tar"), gzip(b"anything")).expect("writes");
    bench.refused(&name("packed.tar").replace("oci:", "oci-archive:"), "IMAGE_UNSUPPORTED", "compressed as a whole");
    std::fs::write(bench.path("text.tar"), vec![b'x'; 2000]).expect("writes");
    bench.refused(&name("text.tar").replace("oci:", "oci-archive:"), "IMAGE_CORRUPT", "not a tar archive");
}

#[test]
fn an_archives_links_are_not_followed_and_its_lengths_not_believed() {
    let bench = Bench::new();
    let reference = format!("oci-archive:{}", bench.path("a.tar").display());
    let write = |tar: Tar| std::fs::write(bench.path("a.tar"), tar.end()).expect("writes");
    write(Tar::default().symlink("index.json", "/etc/hostname"));
    bench.refused(&reference, "IMAGE_NOT_FOUND", "holds no index.json");
    write(Tar::default().head(&Head { path: b"index.json", size: Some(1 << 40), ..Head::default() }, b"{}"));
    bench.refused(&reference, "IMAGE_CORRUPT", "middle of a member");
    write(Tar::default().head(&Head { path: b"index.json", size: Some(u64::MAX >> 1), ..Head::default() }, b"{}"));
    bench.refused(&reference, "IMAGE_CORRUPT", "not a tar archive");
    write(Tar::default().file("index.json", &vec![b' '; 5 << 20]));
    bench.refused(&reference, "IMAGE_CORRUPT", "more than 4194304");
}
