//! Faults between a registry and the store: cut and spoilt downloads, servers that fail, full and read-only disks,
//! calls that are let go of, processes that are killed.

#[path = "support/image.rs"]
mod support;

use alien_core::image::{Options, Progress, Store};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::*;

const TOOLS: [&str; 2] = ["docker-registry", "skopeo"];

/// A registry with `acme/app:1`, whose only layer does not compress and has the given size.
struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    layer: String,
    size: usize,
}

impl Bench {
    fn new(bytes: usize) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let mut layout = LayoutDir::new(&dir.path().join("layout"));
        let layer = Layer::gzip(Tar::default().file("noise", &noise(bytes)).end());
        let (digest, size) = (sha256(&layer.blob), layer.blob.len());
        let image = layout.image(&[layer], arch());
        layout.tag(image, "app");
        let registry = Registry::start(None, None);
        registry.push(&layout, "app", "acme/app:1", None);
        Bench { dir, registry, layer: format!("/blobs/sha256:{digest}"), size }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).expect("opens")
    }

    /// A proxy whose script is asked about each request for the layer, with its number, from 0.
    fn proxy(&self, script: impl Fn(usize, &Request) -> Action + Send + Sync + 'static) -> Proxy {
        let (layer, count) = (self.layer.clone(), AtomicUsize::new(0));
        Proxy::start(&self.registry.host, move |request| match request.path.ends_with(&layer) {
            true => script(count.fetch_add(1, Ordering::SeqCst), request),
            false => Action::Pass(request.path.clone()),
        })
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next(&mut state).to_le_bytes()).take(bytes).collect()
}

fn pass(request: &Request) -> Action {
    Action::Pass(request.path.clone())
}

fn ranges(proxy: &Proxy) -> Vec<Option<String>> {
    let blobs = proxy.seen().into_iter().filter(|request| request.path.contains("/blobs/"));
    // The first is the configuration.
    blobs.skip(1).map(|request| request.headers.get("range").cloned()).collect()
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(3 << 20);
    let proxy = bench.proxy(|count, request| match count {
        0 => Action::Cut(1_000_000),
        1 => Action::Cut(500_000),
        _ => pass(request),
    });
    let (image, told) = ensure_told(&bench.store(), &format!("{}/acme/app:1", proxy.host), &Options::default());
    let image = image.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("unpacked"), noise(3 << 20));
    let ranges = ranges(&proxy);
    assert_eq!(ranges, [None, Some("bytes=1000000-".into()), Some("bytes=1500000-".into())]);
    let last = told.iter().rev().find(|step| matches!(step, Progress::Downloading { .. }));
    let size = bench.size as u64;
    assert_eq!(last, Some(&Progress::Downloading { bytes: size, total_bytes: size }), "nothing is counted twice");
}

#[test]
fn a_server_that_knows_no_ranges_is_read_again_from_the_start() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1 << 20);
    let blob = std::fs::read(bench.path("layout/blobs/sha256").join(&bench.layer[14..])).expect("the layer");
    let elsewhere = vec![("Content-Range".to_owned(), "bytes 7-9/10".to_owned())];
    let answers = [
        ("ignores it", None),
        ("another part", Some(("206 Partial Content", elsewhere))),
        ("not satisfiable", Some(("416 Range Not Satisfiable", Vec::new()))),
    ];
    for (what, odd) in answers {
        let blob = blob.clone();
        let proxy = bench.proxy(move |count, _| match (count, &odd) {
            (0, _) => Action::Cut(400_000),
            (1, Some((status, headers))) => Action::Answer(status, headers.clone(), vec![0; 3]),
            _ => Action::Answer("200 OK", Vec::new(), blob.clone()),
        });
        let store = Store::open(&bench.path(what)).expect("opens");
        let image = ensure(&store, &format!("{}/acme/app:1", proxy.host), &Options::default());
        let image = image.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("unpacked"), noise(1 << 20), "{what}");
        assert_eq!(ranges(&proxy)[1].as_deref(), Some("bytes=400000-"), "{what}");
    }
}

#[test]
fn what_passes_is_tried_again_and_what_stays_is_said_with_the_count() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1000);
    let proxy = bench.proxy(|count, request| match count {
        0 => Action::Answer("503 Service Unavailable", Vec::new(), Vec::new()),
        1 => Action::Answer("429 Too Many Requests", vec![("Retry-After".into(), "1".into())], Vec::new()),
        2 => Action::Close,
        _ => pass(request),
    });
    let started = Instant::now();
    let image = ensure(&bench.store(), &format!("{}/acme/app:1", proxy.host), &Options::default());
    assert!(image.is_ok(), "{image:?}");
    assert!(started.elapsed().as_millis() >= 1000, "Retry-After was not obeyed");

    let cases = [
        (
            "500",
            (|_| Action::Answer("500 Internal Server Error", Vec::new(), Vec::new())) as fn(&Request) -> Action,
            "answered 500 (5 tries)",
        ),
        ("cut", |_| Action::Cut(100), "was cut"),
        ("closed", |_| Action::Close, "was cut (5 tries)"),
        (
            "too late",
            |_| Action::Answer("429 Too Many Requests", vec![("Retry-After".into(), "3600".into())], Vec::new()),
            "come back in 3600 s",
        ),
        ("teapot", |_| Action::Answer("418 I'm a teapot", Vec::new(), Vec::new()), "answered 418 (1 try)"),
        (
            "round and round",
            |request| Action::Answer("302 Found", vec![("Location".into(), request.path.clone())], Vec::new()),
            "redirects more than 5 times",
        ),
    ];
    // Side by side: each waits between its tries.
    std::thread::scope(|scope| {
        for (what, action, part) in cases {
            let bench = &bench;
            scope.spawn(move || {
                let proxy = bench.proxy(move |_, request| action(request));
                let store = Store::open(&bench.path(what)).expect("opens");
                let name = format!("{}/acme/app:1", proxy.host);
                let error = report(ensure(&store, &name, &Options::default()).expect_err(what));
                assert_eq!((error.code.as_str(), error.retryable), ("REGISTRY_UNREACHABLE", true), "{what}: {error}");
                assert!(error.message.contains(part), "{what}: {error}");
                assert_tidy(&bench.path(what));
            });
        }
    });
}

#[test]
fn what_arrives_changed_is_refused() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1000);
    let not_found = |_: &Request| Action::Answer("404 Not Found", Vec::new(), Vec::new());
    let longer = |_: &Request| Action::Answer("200 OK", Vec::new(), vec![0; 100_000]);
    let spoilt = |_: &Request| Action::Spoil;
    for (what, action, code, part) in [
        ("spoilt", spoilt as fn(&Request) -> Action, "IMAGE_CORRUPT", "what arrived has the digest"),
        ("longer", longer, "IMAGE_CORRUPT", "more than the"),
        ("gone", not_found, "IMAGE_NOT_FOUND", "its blob sha256:"),
    ] {
        let proxy = bench.proxy(move |_, request| action(request));
        let store = Store::open(&bench.path(what)).expect("opens");
        let error = report(ensure(&store, &format!("{}/acme/app:1", proxy.host), &Options::default()).expect_err(what));
        assert_eq!(error.code, code, "{what}: {error}");
        assert!(error.message.contains(part), "{what}: {error}");
        assert_tidy(&bench.path(what));
        assert_eq!(std::fs::read_dir(store.layers_dir()).expect("layers").count(), 0);
    }
    // Manifest and configuration.
    for (what, part) in
        [("/manifests/", "its manifest has the digest"), ("/blobs/", "its configuration has the digest")]
    {
        let proxy = Proxy::start(&bench.registry.host, move |request| match request.path.contains(what) {
            true => Action::Spoil,
            false => pass(request),
        });
        let store = Store::open(&bench.path(&what[1..4])).expect("opens");
        let error = report(ensure(&store, &format!("{}/acme/app:1", proxy.host), &Options::default()).expect_err(what));
        assert_eq!(error.code, "IMAGE_CORRUPT", "{error}");
        assert!(error.message.contains(part), "{what}: {error}");
    }
}

#[test]
fn registries_that_are_not_there_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("store")).expect("opens");
    let refused = format!("127.0.0.1:{}/acme/app:1", free_port());
    for (name, part) in
        [(refused.as_str(), "connection refused"), ("no-such-host.invalid/acme/app:1", "cannot be resolved")]
    {
        let error = report(ensure(&store, name, &Options::default()).expect_err(name));
        assert_eq!(error.code, "REGISTRY_UNREACHABLE", "{error}");
        assert!(error.message.contains(part) && error.message.contains("(5 tries)"), "{error}");
    }
}

#[test]
fn a_manifest_may_be_neither_huge_nor_odd() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("store")).expect("opens");
    let zeros = "0".repeat(64);
    let manifest = |kind: &str| {
        format!(
            r#"{{"config":{{"digest":"sha256:{zeros}","size":2}},"layers":[{{"mediaType":"{kind}","digest":"sha256:{zeros}","size":1}}]}}"#
        )
    };
    for (body, code, part) in [
        (" ".repeat(5 << 20), "IMAGE_CORRUPT", "more than 4194304 bytes"),
        (r#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#.to_owned(), "IMAGE_UNSUPPORTED", "schema 1"),
        (manifest("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "IMAGE_UNSUPPORTED", "foreign layer"),
        (manifest("application/vnd.oci.image.layer.nondistributable.v1.tar"), "IMAGE_UNSUPPORTED", "foreign layer"),
        (manifest("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "IMAGE_UNSUPPORTED", "encrypted"),
        (manifest("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "IMAGE_UNSUPPORTED", "other artifact"),
    ] {
        let proxy =
            Proxy::start("127.0.0.1:1", move |_| Action::Answer("200 OK", Vec::new(), body.as_bytes().to_vec()));
        let error = report(ensure(&store, &format!("{}/a:1", proxy.host), &Options::default()).expect_err(part));
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn a_call_that_is_let_go_of_leaves_nothing() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(8 << 20);
    let proxy = bench.proxy(|_, _| Action::Stall(2 << 20));
    let store = bench.store();
    let reference = parse(&format!("{}/acme/app:1", proxy.host));
    let options = Options::default();
    run(async {
        let arriving = Arc::new(tokio::sync::Notify::new());
        let heard = arriving.clone();
        let progress = move |step: Progress| {
            if matches!(step, Progress::Downloading { .. }) {
                heard.notify_one();
            }
        };
        tokio::select! {
            done = store.ensure(&reference, &options, &progress) => panic!("it cannot end: {done:?}"),
            () = arriving.notified() => {}
        }
    });
    // The runtime is gone, and with it all threads that held the session.
    assert_tidy(&bench.path("store"));

    // In the middle of unpacking: the first word of it is the moment to go.
    let direct = parse(&format!("{}/acme/app:1", bench.registry.host));
    run(async {
        let unpacking = Arc::new(tokio::sync::Notify::new());
        let heard = unpacking.clone();
        let progress = move |step: Progress| {
            if matches!(step, Progress::Unpacking { .. }) {
                heard.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = unpacking.notified() => {}
            _ = store.ensure(&direct, &options, &progress) => {}
        }
    });
    assert_tidy(&bench.path("store"));
    ensure(&store, &format!("{}/acme/app:1", bench.registry.host), &options).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    if std::env::var_os("ALIEN_TEST_KILLED_STORE").is_some() {
        return child_that_is_killed();
    }
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(4 << 20);
    let proxy = bench.proxy(|_, _| Action::Stall(1 << 20));
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "what_a_killed_process_left_is_removed_by_the_next", "--nocapture"])
        .env("ALIEN_TEST_KILLED_STORE", bench.path("store"))
        .env("ALIEN_TEST_KILLED_IMAGE", format!("{}/acme/app:1", proxy.host))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    // It says so when bytes have arrived.
    let stdout = child.stdout.take().expect("its output");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("bytes arrived")), "the child ended early");
    let left = || std::fs::read_dir(bench.path("store/tmp")).expect("tmp").count();
    assert_eq!(left(), 2, "a session and its lock");
    // While it lives, nobody takes its session away.
    let _beside = bench.store();
    assert_eq!(left(), 2);
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert_eq!(left(), 2);
    let store = bench.store();
    assert_tidy(&bench.path("store"));
    ensure(&store, &format!("{}/acme/app:1", bench.registry.host), &Options::default()).expect("pulls");
}

fn child_that_is_killed() {
    let var = |name| std::env::var(name).expect(name);
    let store = Store::open(Path::new(&var("ALIEN_TEST_KILLED_STORE"))).expect("opens");
    let reference = parse(&var("ALIEN_TEST_KILLED_IMAGE"));
    let progress = |step: Progress| {
        if matches!(step, Progress::Downloading { .. }) {
            println!("\nbytes arrived");
        }
    };
    let _ = run(store.ensure(&reference, &Options::default(), &progress));
}

#[test]
fn two_processes_that_make_the_same_layer_both_succeed() {
    const TEST: &str = "two_processes_that_make_the_same_layer_both_succeed";
    if let Some(store) = std::env::var_os("ALIEN_TEST_SHARED_STORE") {
        let store = Store::open(Path::new(&store)).expect("opens");
        let reference = std::env::var("ALIEN_TEST_SHARED_IMAGE").expect("given");
        ensure(&store, &reference, &Options::default()).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1 << 20);
    // Neither gets the layer before both have asked for it, so that both unpack it.
    let both = std::sync::Barrier::new(2);
    let proxy = bench.proxy(move |_, request| {
        both.wait();
        pass(request)
    });
    let child = || {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", TEST, "--nocapture"])
            .env("ALIEN_TEST_SHARED_STORE", bench.path("store"))
            .env("ALIEN_TEST_SHARED_IMAGE", format!("{}/acme/app:1", proxy.host))
            .spawn()
            .expect("starts")
    };
    for mut child in [child(), child()] {
        assert!(child.wait().expect("ends").success());
    }
    assert_tidy(&bench.path("store"));
    let layers = std::fs::read_dir(bench.store().layers_dir()).expect("layers").flatten();
    assert_eq!(layers.filter(|entry| entry.path().is_dir()).count(), 1);
}

#[test]
fn a_store_that_cannot_be_written_says_which() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let error = report(Store::open(&file.join("store")).expect_err("a file in the way"));
    assert!(error.message.contains("file"), "{error}");
    // Root may write everywhere, but not in /proc.
    let error = report(Store::open(Path::new("/proc/self/store")).expect_err("not writable"));
    assert!(matches!(error.code.as_str(), "STORE_NOT_WRITABLE" | "STORE_FAILED"), "{error}");
    if !rustix::process::geteuid().is_root() {
        let sealed = dir.path().join("sealed");
        std::fs::create_dir(&sealed).expect("a folder");
        std::fs::set_permissions(&sealed, std::os::unix::fs::PermissionsExt::from_mode(0o555)).expect("chmod");
        let error = report(Store::open(&sealed.join("store")).expect_err("not writable"));
        assert_eq!(error.code, "STORE_NOT_WRITABLE", "{error}");
    }
}

/// Runs one test of this program again with a file system of its own at `at`; false where that is refused.
fn again_with_a_mount(test: &str, at: &Path, options: &str) -> bool {
    if !have(&["unshare", "mount"]) {
        return false;
    }
    let probe =
        Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "tmpfs"]).arg(at).output().expect("unshare runs");
    if !probe.status.success() {
        skip(&format!("no mount namespace: {}", String::from_utf8_lossy(&probe.stderr).trim()));
        return false;
    }
    let script = format!("mount -t tmpfs -o {options} tmpfs \"$1\" && shift && exec \"$@\"");
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script, "sh"])
        .arg(at)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("ALIEN_TEST_MOUNTED", at)
        .output()
        .expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    true
}

#[test]
fn a_full_disk_is_said_and_nothing_half_made_is_used() {
    let Some(mounted) = std::env::var_os("ALIEN_TEST_MOUNTED").map(PathBuf::from) else {
        let dir = tempfile::tempdir().expect("a folder");
        again_with_a_mount("a_full_disk_is_said_and_nothing_half_made_is_used", dir.path(), "size=4m");
        return;
    };
    if !have(&TOOLS) {
        return;
    }
    let store_dir = mounted.join("store");
    let store = Store::open(&store_dir).expect("opens");
    // Too large to download; small to download, too large to unpack.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut layout = LayoutDir::new(elsewhere.path());
    let large = layout.image(&[Layer::gzip(Tar::default().file("noise", &noise(8 << 20)).end())], arch());
    let small = layout.image(&[Layer::gzip(Tar::default().file("zeros", &vec![0; 8 << 20]).end())], arch());
    let fits = layout.image(&[Layer::gzip(Tar::default().file("a", b"x").end())], arch());
    let registry = Registry::start(None, None);
    for (image, tag) in [(large, "large"), (small, "small"), (fits, "fits")] {
        layout.tag(image, tag);
        registry.push(&layout, tag, &format!("acme/{tag}:1"), None);
    }
    for tag in ["large", "small"] {
        let error =
            report(ensure(&store, &format!("{}/acme/{tag}:1", registry.host), &Options::default()).expect_err(tag));
        assert_eq!(error.code, "STORE_FULL", "{error}");
        assert!(error.context["path"].as_str().is_some_and(|path| path.starts_with(&store_dir.display().to_string())));
        assert_eq!(error.context.contains_key("neededBytes"), tag == "large", "{error}");
        assert_tidy(&store_dir);
        assert_eq!(std::fs::read_dir(store.layers_dir()).expect("layers").count(), 0);
    }
    // The space is free again.
    ensure(&store, &format!("{}/acme/fits:1", registry.host), &Options::default())
        .unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_read_only_store_gives_what_it_has_and_says_that_it_takes_nothing() {
    let Some(mounted) = std::env::var_os("ALIEN_TEST_MOUNTED").map(PathBuf::from) else {
        let dir = tempfile::tempdir().expect("a folder");
        let test = "a_read_only_store_gives_what_it_has_and_says_that_it_takes_nothing";
        again_with_a_mount(test, dir.path(), "size=64m");
        return;
    };
    let mut layout = LayoutDir::new(&mounted.join("layout"));
    for (tag, contents) in [("here", "1"), ("missing", "2")] {
        let image = layout.image(&[Layer::gzip(Tar::default().file("a", contents.as_bytes()).end())], arch());
        layout.tag(image, tag);
    }
    let store_dir = mounted.join("store");
    let store = Store::open(&store_dir).expect("opens");
    let image = ensure(&store, &layout.reference("here"), &Options::default()).expect("unpacks");
    let remount = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&mounted).status().expect("mount runs");
    assert!(remount.success());
    let store = Store::open(&store_dir).expect("opens");
    let error = report(ensure(&store, &layout.reference("missing"), &Options::default()).expect_err("read-only"));
    assert_eq!(error.code, "STORE_NOT_WRITABLE", "{error}");
    assert!(error.message.contains("Read-only"), "{error}");
    assert_eq!(ensure(&store, &layout.reference("here"), &Options::default()).expect("is there"), image);
}

/// The merged view of a real overlay is what applying the layers one on another gives.
#[test]
fn overlayfs_shows_what_the_layers_mean() {
    let Some(mounted) = std::env::var_os("ALIEN_TEST_MOUNTED").map(PathBuf::from) else {
        let dir = tempfile::tempdir().expect("a folder");
        again_with_a_mount("overlayfs_shows_what_the_layers_mean", dir.path(), "size=64m");
        return;
    };
    let mut layout = LayoutDir::new(&mounted.join("layout"));
    let layers = [
        Tar::default()
            .dir("usr/bin")
            .symlink("bin", "usr/bin")
            .file("bin/sh", b"1")
            .file("etc/a", b"1")
            .file("etc/b", b"1")
            .file("opt/x/y", b"1")
            .end(),
        Tar::default()
            .file("bin/foo", b"2")
            .file("etc/.wh.a", b"")
            .file("opt/.wh..wh..opq", b"")
            .file("opt/new", b"2")
            .end(),
        Tar::default().file(".wh.etc", b"").dir("etc").file("etc/c", b"3").file("bin/.wh.sh", b"").end(),
    ];
    let image = layout.image(&layers.map(Layer::gzip), arch());
    layout.tag(image, "t");
    let store = Store::open(&mounted.join("store")).expect("opens");
    let image = ensure(&store, &layout.reference("t"), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    let names: Vec<_> = image
        .layers
        .iter()
        .rev()
        .map(|layer| layer.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    let merged = mounted.join("merged");
    std::fs::create_dir(&merged).expect("a folder");
    let output = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &format!("userxattr,lowerdir={}", names.join(":"))])
        .arg(&merged)
        .current_dir(store.layers_dir())
        .output()
        .expect("mount runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = Command::new("find").args([".", "-mindepth", "1", "-printf", "%P %y\n"]).current_dir(&merged).output();
    let list = String::from_utf8(list.expect("find runs").stdout).expect("is text");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    let expected = ["bin l", "etc d", "etc/c f", "opt d", "opt/new f", "usr d", "usr/bin d", "usr/bin/foo f"];
    assert_eq!(lines, expected);
    assert!(Command::new("umount").arg(&merged).status().expect("umount runs").success());
}
