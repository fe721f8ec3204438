//! What `docker save` writes, whoever wrote it, and images of a running engine.

#[path = "support/docker.rs"]
mod docker;
#[path = "support/image.rs"]
mod support;

use alien_core::image::{Limits, Options, Progress, Store, StoreOptions};
use docker::Dockerd;
use std::process::Command;
use support::*;

impl Bench {
    /// `docker-archive:` of a file here.
    fn archive(&self, rest: &str) -> String {
        format!("docker-archive:{}", self.path(rest).display())
    }

    /// The digest of an image, and what its top layer's `a` holds.
    fn read(&self, reference: &str, options: &Options) -> (String, String) {
        let image = ensure(&self.store, reference, options).unwrap_or_else(|why| panic!("{reference}: {why}"));
        let top = image.layers.last().expect("a layer");
        assert_tidy(&self.path("store"));
        (image.digest.clone(), std::fs::read_to_string(top.join("a")).expect("unpacked"))
    }

    fn refused(&self, reference: &str, code: &str, part: &str) {
        let error = report(ensure(&self.store, reference, &Options::default()).expect_err(reference));
        assert_eq!(error.code, code, "{reference}: {error}");
        assert!(error.message.contains(part), "{reference}: {error}");
        assert_tidy(&self.path("store"));
    }

    fn write(&self, name: &str, tar: Tar) {
        std::fs::write(self.path(name), tar.end()).expect("writes");
    }
}

fn layer(contents: &str) -> Vec<u8> {
    Tar::default().file("a", contents.as_bytes()).end()
}

/// A configuration of layers, and the image's ID.
fn config(layers: &[&[u8]]) -> (String, String) {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let config = serde_json::json!({
        "architecture": arch(), "os": "linux", "config": {"Cmd": ["/run"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let id = sha256(config.as_bytes());
    (config, id)
}

/// The engine's options.
fn at(host: &str) -> Options {
    Options { docker_host: Some(host.to_owned()), ..Options::default() }
}

#[test]
fn archives_of_skopeo_and_of_docker_and_images_of_an_engine_are_one() {
    if !have(&["docker-registry", "skopeo", "dockerd", "docker", "gzip"]) {
        return;
    }
    if let Some(why) = docker::missing() {
        println!("skipped: {why}");
        return;
    }
    let bench = Bench::new();
    let mut layout = LayoutDir::new(&bench.path("layout"));
    let registry = Registry::start(None, None);
    let base = || Layer::gzip(Tar::default().file("base", b"shared").end());
    for name in ["one", "two"] {
        let image = layout.image(&[base(), Layer::gzip(layer(name))], arch());
        layout.tag(image, name);
        registry.push(&layout, name, &format!("acme/{name}:1"), None);
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
            .arg(format!("docker://{}/acme/{name}:1", registry.host))
            .arg(format!("{}:acme/{name}:1", bench.archive(&format!("{name}.tar"))))
            .output()
            .expect("skopeo runs");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
    let engine = Dockerd::start(&bench.path("docker"));
    let path = |name: &str| bench.path(name).display().to_string();
    for name in ["one", "two"] {
        engine.done(&["load", "--quiet", "--input", &path(&format!("{name}.tar"))]);
    }
    engine.done(&["save", "--output", &path("saved.tar"), "acme/one:1", "acme/two:1"]);
    assert!(Command::new("gzip").args(["--keep", "--fast", &path("saved.tar")]).status().expect("gzip").success());

    let id = engine.done(&["image", "inspect", "--format", "{{.Id}}", "acme/one:1"]);
    let plain = Options::default();
    let one = (id.clone(), "one".to_owned());
    // Each with a store of its own, so that nothing is there already.
    for reference in
        // By its place only where there is one: an engine saves several in no order.
        ["one.tar", "one.tar:acme/one:1", "one.tar:@0", "saved.tar:acme/one:1", "saved.tar.gz:acme/one:1"]
    {
        let store = tempfile::tempdir_in(bench.dir.path()).expect("a folder");
        let store = Store::open(store.path()).expect("opens");
        let image =
            ensure(&store, &bench.archive(reference), &plain).unwrap_or_else(|why| panic!("{reference}: {why}"));
        assert_eq!((image.digest.as_str(), image.layers.len()), (id.as_str(), 2), "{reference}");
        assert_eq!(std::fs::read(image.layers[1].join("a")).expect("unpacked"), b"one");
    }
    assert_eq!(
        bench.read(&bench.archive("saved.tar:acme/two:1"), &plain).1,
        "two",
        "its base is a link in the archive"
    );
    bench.refused(&bench.archive("saved.tar"), "IMAGE_NOT_FOUND", "has acme/one:1, acme/two:1; name one of them");
    bench.refused(
        &bench.archive("saved.tar:acme/three"),
        "IMAGE_NOT_FOUND",
        "has acme/one:1, acme/two:1, not acme/three",
    );

    let local = at(&engine.host());
    let resolved = run(bench.store.resolve(&parse("docker-daemon:acme/one:1"), &local)).expect("resolves");
    assert_eq!((resolved.digest.as_str(), resolved.cached), (id.as_str(), false));
    let (image, told) = ensure_told(&bench.store, "docker-daemon:acme/one:1", &local);
    assert_eq!(image.unwrap_or_else(|why| panic!("{why}")).digest, id);
    assert!(told.iter().any(|step| matches!(step, Progress::Downloading { bytes, .. } if *bytes > 0)), "{told:?}");
    assert_eq!(bench.read(&format!("docker-daemon:{id}"), &local), one);
    let resolved = run(bench.store.resolve(&parse("docker-daemon:acme/one:1"), &local)).expect("resolves");
    assert!(resolved.cached);
    let error = report(ensure(&bench.store, "docker-daemon:acme/three", &local).expect_err("is not there"));
    assert_eq!(error.code, "IMAGE_NOT_FOUND", "{error}");
    assert!(
        error.message.contains("acme/three:latest") && error.hint.is_some_and(|hint| hint.contains("docker images"))
    );

    // A name that moves is followed; with the engine gone, what it meant last is used, with a word about it.
    engine.done(&["tag", "acme/two:1", "acme/one:1"]);
    let moved = bench.read("docker-daemon:acme/one:1", &local);
    assert_eq!(moved.1, "two");
    let host = engine.host();
    drop(engine);
    let (image, told) = ensure_told(&bench.store, "docker-daemon:acme/one:1", &at(&host));
    assert_eq!(image.unwrap_or_else(|why| panic!("{why}")).digest, moved.0);
    assert!(told.iter().any(|step| matches!(step, Progress::UsingCached { .. })), "{told:?}");
    assert_eq!(bench.read(&format!("docker-daemon:{id}"), &at(&host)), one, "an ID needs no engine");
}

#[test]
fn an_engine_that_does_not_answer_is_told_with_what_to_do() {
    let bench = Bench::new();
    let port = free_port();
    for (host, code, part) in [
        (format!("unix://{}", bench.path("none.sock").display()), "DOCKER_UNREACHABLE", "none.sock"),
        (format!("tcp://127.0.0.1:{port}"), "DOCKER_UNREACHABLE", "refused"),
        ("ssh://somewhere".to_owned(), "IMAGE_OPTIONS_INVALID", "ssh://somewhere"),
    ] {
        let error = report(ensure(&bench.store, "docker-daemon:acme/app", &at(&host)).expect_err("nobody is there"));
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("DOCKER_HOST")));
        assert_tidy(&bench.path("store"));
    }
}

#[test]
fn an_engine_that_sends_something_else_is_refused() {
    let bench = Bench::new();
    let (other, _) = config(&[]);
    let claimed = "a".repeat(64);
    let inspect = format!(r#"{{"Id":"sha256:{claimed}","Size":10}}"#);
    let manifest = format!(r#"[{{"Config":"{}.json","Layers":[]}}]"#, sha256(other.as_bytes()));
    let name = format!("{}.json", sha256(other.as_bytes()));
    let tar = Tar::default().file("manifest.json", manifest.as_bytes()).file(&name, other.as_bytes()).end();
    let json = |text: &str| Action::Answer("200 OK", Vec::new(), text.as_bytes().to_vec());
    let proxy = Proxy::start("", move |request| match request.path.rsplit('/').next() {
        Some("version") => json(r#"{"ApiVersion":"1.41"}"#),
        Some("json") => json(&inspect),
        _ => Action::Answer("200 OK", Vec::new(), tar.clone()),
    });
    let error = ensure(&bench.store, "docker-daemon:acme/app", &at(&format!("tcp://{}", proxy.host)));
    let error = report(error.expect_err("another image"));
    assert_eq!(error.code, "IMAGE_CORRUPT", "{error}");
    assert!(error.message.contains("another image"), "{error}");
    assert_tidy(&bench.path("store"));
}

#[test]
fn a_layout_of_docker_25_is_read_by_its_manifest_json() {
    let bench = Bench::new();
    let (plain, packed) = (layer("plain"), layer("packed"));
    let (config, id) = config(&[&plain, &packed]);
    let gzipped = gzip(&packed);
    let blob = |hex: &str| format!("blobs/sha256/{hex}");
    let layers = [blob(&sha256(&plain)), blob(&sha256(&gzipped))];
    let manifest = serde_json::json!([{"Config": blob(&id), "RepoTags": ["busybox:latest"], "Layers": layers}]);
    let tar = Tar::default()
        .dir("blobs/")
        .dir("blobs/sha256/")
        .file(&blob(&id), config.as_bytes())
        .file(&layers[0], &plain)
        .file(&layers[1], &gzipped)
        .file("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("manifest.json", manifest.to_string().as_bytes());
    bench.write("new.tar", tar);
    let expected = (format!("sha256:{id}"), "packed".to_owned());
    for name in ["new.tar", "new.tar:busybox", "new.tar:docker.io/library/busybox:latest"] {
        assert_eq!(bench.read(&bench.archive(name), &Options::default()), expected, "{name}");
    }
}

#[test]
fn what_is_wrong_with_an_archive_is_said() {
    let bench = Bench::new();
    let contents = layer("x");
    let (config, id) = config(&[&contents]);
    let name = format!("{id}.json");
    let manifest =
        |config: &str, layers: &str| format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":{layers}}}]"#);
    let with = |manifest: &str| {
        Tar::default()
            .file("manifest.json", manifest.as_bytes())
            .file(&name, config.as_bytes())
            .file("l.tar", &contents)
    };
    let good = manifest(&name, r#"["l.tar"]"#);
    bench.write("good.tar", with(&good));
    assert_eq!(bench.read(&bench.archive("good.tar"), &Options::default()).0, format!("sha256:{id}"));
    let bench = Bench::new();
    let other = layer("y");
    let cases: Vec<(&str, Tar, &str, &str)> = vec![
        ("no manifest", Tar::default().file("repositories", b"{}"), "IMAGE_NOT_FOUND", "holds no manifest.json"),
        ("a bare layout", Tar::default().file("index.json", b"{}"), "IMAGE_UNSUPPORTED", "OCI layout"),
        ("no JSON", Tar::default().file("manifest.json", b"{"), "IMAGE_CORRUPT", "manifest.json is not valid"),
        ("no image", Tar::default().file("manifest.json", b"[]"), "IMAGE_NOT_FOUND", "has no image"),
        (
            "a huge manifest",
            Tar::default().file("manifest.json", &vec![b' '; 5 << 20]),
            "IMAGE_CORRUPT",
            "more than 4194304",
        ),
        ("a missing layer", with(&manifest(&name, r#"["m.tar"]"#)), "IMAGE_NOT_FOUND", "holds no m.tar"),
        ("a layer too few", with(&manifest(&name, "[]")), "IMAGE_CORRUPT", "0 layers, its configuration 1"),
        ("another layer", with(&good).file("l.tar", &other), "IMAGE_CORRUPT", "uncompressed its digest is"),
        ("another configuration", with(&good).file(&name, b"{}"), "IMAGE_CORRUPT", "has the digest"),
        (
            "a configuration outside",
            with(&manifest("../../etc/passwd", "[]")),
            "IMAGE_NOT_FOUND",
            "holds no ../../etc/passwd",
        ),
        (
            "a layer that is a link outside",
            with(&manifest(&name, r#"["out.tar"]"#)).symlink("out.tar", "/etc/passwd"),
            "IMAGE_NOT_FOUND",
            "holds no out.tar",
        ),
        (
            "a layer that is a loop of links",
            with(&manifest(&name, r#"["a"]"#)).symlink("a", "b").symlink("b", "a"),
            "IMAGE_NOT_FOUND",
            "holds no a",
        ),
        (
            "several images",
            with(&format!("[{0},{0}]", good.trim_matches(['[', ']']))),
            "IMAGE_NOT_FOUND",
            "has 2 without a name, :@0 to :@1",
        ),
    ];
    for (what, tar, code, part) in cases {
        bench.write(what, tar);
        // A path holds no spaces.
        let file = format!("{}.tar", what.replace(' ', "-"));
        std::fs::rename(bench.path(what), bench.path(&file)).expect("renames");
        bench.refused(&bench.archive(&file), code, part);
    }
    bench.refused(&bench.archive("none.tar"), "IMAGE_NOT_FOUND", "No such file");
    std::fs::write(bench.path("text.tar"), vec![b'x'; 2000]).expect("writes");
    bench.refused(&bench.archive("text.tar"), "IMAGE_CORRUPT", "not a tar archive");
    let packed = gzip(&with(&good).end());
    std::fs::write(bench.path("cut.tar.gz"), &packed[..packed.len() / 2]).expect("writes");
    bench.refused(&bench.archive("cut.tar.gz"), "IMAGE_CORRUPT", "cut.tar.gz");
}

#[test]
fn an_archive_that_is_a_bomb_is_not_uncompressed() {
    let bench = Bench::new();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let store =
        Store::open_with(&bench.path("small"), StoreOptions { limits, ..StoreOptions::default() }).expect("opens");
    std::fs::write(bench.path("bomb.tar.gz"), gzip(&vec![0; 4 << 20])).expect("writes");
    let error = report(ensure(&store, &bench.archive("bomb.tar.gz"), &Options::default()).expect_err("a bomb"));
    assert_eq!(error.code, "IMAGE_CORRUPT", "{error}");
    assert!(error.message.contains("more than 1048576"), "{error}");
    assert_tidy(&bench.path("small"));
}
