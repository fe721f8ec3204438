//! A registry with mirrors, downloads that another process goes on with, and how many there are at once.

#[path = "support/image.rs"]
mod support;

use alien_core::image::{Options, Progress, RegistryOptions, Store, StoreOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

const TOOLS: [&str; 2] = ["docker-registry", "skopeo"];

/// A registry with `acme/app:1`, whose layers do not compress.
struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    layers: Vec<String>,
    size: usize,
}

impl Bench {
    fn new(layers: usize, bytes: usize) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let mut layout = LayoutDir::new(&dir.path().join("layout"));
        let make = |n: usize| Layer::gzip(Tar::default().file("noise", &noise(n as u64, bytes)).end());
        let layers: Vec<Layer> = (0..layers).map(make).collect();
        let (digests, size) = (layers.iter().map(|layer| sha256(&layer.blob)).collect(), layers[0].blob.len());
        let image = layout.image(&layers, arch());
        layout.tag(image, "app");
        let registry = Registry::start(None, None);
        registry.push(&layout, "app", "acme/app:1", None);
        Bench { dir, registry, layers: digests, size }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self) -> String {
        format!("{}/acme/app:1", self.registry.host)
    }

    fn with_mirrors(&self, mirrors: &[&str]) -> Options {
        let mirrors = mirrors.iter().map(|host| format!("http://{host}")).collect();
        with_registry(&self.registry.host, RegistryOptions { mirrors, ..RegistryOptions::default() })
    }

    /// The ranges that were asked for of a layer.
    fn ranges(&self, proxy: &Proxy) -> Vec<Option<String>> {
        let of_layer = |request: &Request| self.layers.iter().any(|layer| request.path.ends_with(layer));
        proxy.seen().into_iter().filter(of_layer).map(|request| request.headers.get("range").cloned()).collect()
    }
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 + seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}

fn always(status: &'static str) -> Proxy {
    Proxy::start("", move |_| Action::Answer(status, Vec::new(), Vec::new()))
}

fn said(told: &[Progress]) -> Vec<&str> {
    let asking = told.iter().filter_map(|step| match step {
        Progress::Asking { what } => Some(what.as_str()),
        _ => None,
    });
    asking.collect()
}

#[test]
fn a_mirror_that_has_nothing_is_followed_by_the_next_and_by_the_registry() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1, 1000);
    let (empty, broken) = (always("404 Not Found"), always("503 Service Unavailable"));
    let dead = format!("127.0.0.1:{}", free_port());
    let good = Proxy::start(&bench.registry.host, |request| Action::Pass(request.path.clone()));
    let cases = [
        (vec![good.host.as_str()], format!("asking the mirror http://{}", good.host), vec![]),
        (
            vec![dead.as_str(), &good.host],
            format!("asking the mirror http://{} (http://{dead}: connection refused", good.host),
            vec![],
        ),
        (
            vec![dead.as_str(), &empty.host, &broken.host],
            format!("asking {} itself", bench.registry.host),
            vec!["connection refused", "answered 404", "answered 503"],
        ),
    ];
    for (number, (mirrors, start, parts)) in cases.into_iter().enumerate() {
        let store = Store::open(&bench.path(&format!("store{number}"))).expect("opens");
        let (image, told) = ensure_told(&store, &bench.name(), &bench.with_mirrors(&mirrors));
        image.unwrap_or_else(|why| panic!("{mirrors:?}: {why}"));
        let said = said(&told);
        assert_eq!(said.len(), 1, "it is told once: {said:?}");
        assert!(said[0].starts_with(&start) && parts.iter().all(|part| said[0].contains(part)), "{said:?}");
    }

    let store = Store::open(&bench.path("none")).expect("opens");
    let absent = format!("{}/acme/app:2", bench.registry.host);
    let error = report(ensure(&store, &absent, &bench.with_mirrors(&[&dead, &empty.host])).expect_err("is not there"));
    assert_eq!(error.code, "IMAGE_NOT_FOUND", "{error}");
    assert!(error.message.contains("connection refused") && error.message.contains(&empty.host), "{error}");
    // A mirror that answers something else is to be mended.
    let closed = always("403 Forbidden");
    let error = report(ensure(&store, &bench.name(), &bench.with_mirrors(&[&closed.host])).expect_err("is closed"));
    assert_eq!(error.code, "IMAGE_UNAUTHORIZED", "{error}");
    assert!(error.message.contains(&closed.host), "{error}");
    // What a mirror knows to be absent is so also where the registry is away.
    let away = format!("127.0.0.1:{}", free_port());
    let mirrors = RegistryOptions { mirrors: vec![format!("http://{}", empty.host)], ..RegistryOptions::default() };
    let error = ensure(&store, &format!("{away}/acme/app:1"), &with_registry(&away, mirrors)).expect_err("absent");
    let error = report(error);
    assert_eq!(error.code, "IMAGE_NOT_FOUND", "{error}");
    assert!(error.message.contains(&format!("{away} itself: connection refused")), "{error}");
}

#[test]
fn a_mirror_that_dies_in_the_middle_is_taken_over_from_where_it_was() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1, 3 << 20);
    let (layer, asked) = (bench.layers[0].clone(), AtomicUsize::new(0));
    let mirror = Proxy::start(&bench.registry.host, move |request| match request.path.ends_with(&layer) {
        false => Action::Pass(request.path.clone()),
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => Action::Cut(700_000),
        true => Action::Answer("500 Internal Server Error", Vec::new(), Vec::new()),
    });
    let behind = Proxy::start(&bench.registry.host, |request| Action::Pass(request.path.clone()));
    let store = Store::open(&bench.path("store")).expect("opens");
    let (image, told) = ensure_told(&store, &bench.name(), &bench.with_mirrors(&[&mirror.host, &behind.host]));
    let image = image.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("unpacked"), noise(0, 3 << 20));
    assert_eq!(bench.ranges(&behind), [Some("bytes=700000-".to_owned())]);
    let said = said(&told);
    assert!(said.len() == 2 && said[1].contains(&behind.host) && said[1].contains("answered 500"), "{said:?}");
}

#[test]
fn a_killed_download_is_gone_on_with_by_the_next_process() {
    const TEST: &str = "a_killed_download_is_gone_on_with_by_the_next_process";
    if let Some(store) = std::env::var_os("ALIEN_TEST_KILLED_STORE") {
        let store = Store::open(Path::new(&store)).expect("opens");
        let image = std::env::var("ALIEN_TEST_KILLED_IMAGE").expect("given");
        let progress = |step: Progress| {
            if let Progress::Downloading { bytes, .. } = step {
                println!("\narrived {bytes}");
            }
        };
        let _ = run(store.ensure(&parse(&image), &Options::default(), &progress));
        return;
    }
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1, 4 << 20);
    let most = bench.size * 8 / 10;
    let (layer, asked) = (bench.layers[0].clone(), AtomicUsize::new(0));
    let proxy = Proxy::start(&bench.registry.host, move |request| match request.path.ends_with(&layer) {
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => Action::Stall(most),
        _ => Action::Pass(request.path.clone()),
    });
    let name = format!("{}/acme/app:1", proxy.host);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env("ALIEN_TEST_KILLED_STORE", bench.path("store"))
        .env("ALIEN_TEST_KILLED_IMAGE", &name)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    // It says how much has arrived, and the file how much of it is written.
    let partial = bench.path("store/partial").join(&bench.layers[0]);
    let written = || std::fs::metadata(&partial).map_or(0, |meta| meta.len());
    let started = std::time::Instant::now();
    while written() < most as u64 {
        assert!(started.elapsed().as_secs() < 30, "only {} of {most} bytes have come", written());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // As long as it lives the file is its own: another one fetches all for itself.
    let beside = Store::open(&bench.path("store")).expect("opens");
    ensure(&beside, &bench.name(), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    std::fs::remove_dir_all(
        std::fs::read_dir(beside.layers_dir()).expect("layers").next().expect("one").expect("is").path(),
    )
    .expect("removes");
    child.kill().expect("kills");
    child.wait().expect("ends");
    let store = Store::open(&bench.path("store")).expect("opens");
    let (image, told) = ensure_told(&store, &name, &Options::default());
    let image = image.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("unpacked"), noise(0, 4 << 20));
    assert_eq!(bench.ranges(&proxy), [None, Some(format!("bytes={most}-"))]);
    let size = bench.size as u64;
    let last = told.iter().rev().find(|step| matches!(step, Progress::Downloading { .. }));
    assert_eq!(last, Some(&Progress::Downloading { bytes: size, total_bytes: size }));
    assert!(!partial.exists(), "what is unpacked is not kept");
    assert_tidy(&bench.path("store"));
}

#[test]
fn what_was_left_and_is_wrong_is_fetched_again() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(1, 1 << 20);
    let proxy = Proxy::start(&bench.registry.host, |request| Action::Pass(request.path.clone()));
    for (what, left, ranges) in [
        ("other bytes", vec![7; 5000], vec![Some("bytes=5000-".to_owned()), None]),
        ("as many other bytes", vec![7; bench.size], vec![None]),
        ("more than there are", vec![7; bench.size + 1], vec![None]),
    ] {
        let before = bench.ranges(&proxy).len();
        let store = Store::open(&bench.path(what)).expect("opens");
        std::fs::write(bench.path(what).join("partial").join(&bench.layers[0]), left).expect("writes");
        let image = ensure(&store, &format!("{}/acme/app:1", proxy.host), &Options::default());
        let image = image.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("unpacked"), noise(0, 1 << 20), "{what}");
        assert_eq!(bench.ranges(&proxy)[before..], ranges, "{what}");
        assert_eq!(std::fs::read_dir(bench.path(what).join("partial")).expect("partial").count(), 0);
    }
}

#[test]
fn no_more_downloads_run_at_once_than_are_allowed_over_all_images() {
    if !have(&TOOLS) {
        return;
    }
    const AT_ONCE: usize = 2;
    let bench = Bench::new(6, 10_000);
    let (pairs, running, most) = (Barrier::new(AT_ONCE), AtomicUsize::new(0), std::sync::Arc::new(AtomicUsize::new(0)));
    let (layers, seen) = (bench.layers.clone(), most.clone());
    let proxy = Proxy::start(&bench.registry.host, move |request| {
        if layers.iter().any(|layer| request.path.ends_with(layer)) {
            seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Whoever is let through has met another one: so many do run at once.
            pairs.wait();
            running.fetch_sub(1, Ordering::SeqCst);
        }
        Action::Pass(request.path.clone())
    });
    let options = StoreOptions { downloads: AT_ONCE, ..StoreOptions::default() };
    let store = Store::open_with(&bench.path("store"), options).expect("opens");
    let reference = parse(&format!("{}/acme/app:1", proxy.host));
    let image = run(store.ensure(&reference, &Options::default(), &|_| {}));
    assert_eq!(image.unwrap_or_else(|why| panic!("{why}")).layers.len(), 6);
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
}
