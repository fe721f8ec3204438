//! The store as a whole: room for what is fetched, its limit, what is in it, and prunes beside calls that fetch.

#[path = "support/image.rs"]
mod support;

use alien_core::image::{Error, InUse, Options, Pruned, Store, StoreOptions};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use support::*;

struct Bench {
    dir: tempfile::TempDir,
    layout: LayoutDir,
}

impl Bench {
    /// Images that share a base and have a layer of their own each.
    fn new(tags: &[&str]) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let mut layout = LayoutDir::new(&dir.path().join("layout"));
        for tag in tags {
            let base = Layer::gzip(Tar::default().file("base", &vec![1; 100_000]).end());
            let own = Layer::gzip(Tar::default().file("own", tag.repeat(20_000).as_bytes()).end());
            let image = layout.image(&[base, own], arch());
            layout.tag(image, tag);
        }
        Bench { dir, layout }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn store(&self) -> Store {
        Store::open(&self.path()).expect("opens")
    }
}

fn prune(store: &Store, dry_run: bool, in_use: InUse) -> Pruned {
    let remove = |tree: &Path| std::fs::remove_dir_all(tree).map_err(|why| panic!("{}: {why}", tree.display()));
    store.prune::<Error>(dry_run, || Ok(in_use), remove).unwrap_or_else(|why| panic!("{why}"))
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("reads").count()
}

#[test]
fn what_has_no_room_is_not_begun() {
    let zeros = "0".repeat(64);
    let config = format!(r#"{{"architecture":"{}","os":"linux","rootfs":{{"diff_ids":["sha256:{zeros}"]}}}}"#, arch());
    let manifest = format!(
        r#"{{"config":{{"digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{zeros}","size":1125899906842624}}]}}"#,
        sha256(config.as_bytes()),
        config.len()
    );
    let proxy = Proxy::start("", move |request| {
        let body = if request.path.contains("/manifests/") { &manifest } else { &config };
        Action::Answer("200 OK", Vec::new(), body.as_bytes().to_vec())
    });
    let bench = Bench::new(&[]);
    let reference = format!("{}/acme/app:1", proxy.host);
    let error = report(ensure(&bench.store(), &reference, &Options::default()).expect_err("a petabyte"));
    assert_eq!((error.code.as_str(), error.http_status_code), ("STORE_FULL", 507), "{error}");
    assert_eq!(error.context["neededBytes"], 2_251_799_813_685_248_u64, "downloaded and unpacked");
    assert!(error.context["freeBytes"].as_u64().is_some_and(|free| free > 0), "{error}");
    assert!(error.message.contains("needs 2251799813685248 bytes") && error.message.contains("are free"), "{error}");
    assert!(!proxy.seen().iter().any(|request| request.path.ends_with(&zeros)), "nothing of it was asked for");

    let options = StoreOptions { max_bytes: Some(1 << 40), ..StoreOptions::default() };
    let limited = Store::open_with(&bench.path(), options).expect("opens");
    let bench = Bench::new(&["a"]);
    let options = StoreOptions { max_bytes: Some(10), ..StoreOptions::default() };
    let tight = Store::open_with(&bench.path(), options).expect("opens");
    let error = report(ensure(&tight, &bench.layout.reference("a"), &Options::default()).expect_err("over the limit"));
    assert_eq!(error.code, "STORE_OVER_LIMIT", "{error}");
    for key in ["neededBytes", "usedBytes", "limitBytes"] {
        assert!(error.context[key].as_u64().is_some_and(|bytes| bytes > 0), "{key}: {error}");
    }
    assert!(error.hint.is_some_and(|hint| hint.contains("alien prune")));
    ensure(&limited, &bench.layout.reference("a"), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn shared_layers_count_once() {
    let bench = Bench::new(&["a", "b"]);
    let store = bench.store();
    for tag in ["a", "b"] {
        ensure(&store, &bench.layout.reference(tag), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    }
    let images = store.images().expect("lists");
    let mut names: Vec<_> = images.iter().flat_map(|image| image.references.clone()).collect();
    names.sort();
    assert_eq!(names, [bench.layout.reference("a"), bench.layout.reference("b")]);
    let (a, b) = (&images[0], &images[1]);
    assert_eq!((a.layers.len(), a.layers[0] == b.layers[0]), (2, true));
    let shared = store.layer_bytes(&a.layers[0]);
    assert!(shared >= 100_000, "{shared}");
    let total = store.bytes().expect("counts");
    let both = a.bytes + b.bytes - shared;
    assert!(total >= both && total < both + 100_000, "{total}, and both have {both}");
}

#[test]
fn a_prune_takes_what_nobody_uses_and_nothing_else() {
    let bench = Bench::new(&["used", "held", "gone"]);
    let store = bench.store();
    let fetch = |tag: &str| {
        ensure(&store, &bench.layout.reference(tag), &Options::default()).unwrap_or_else(|why| panic!("{tag}: {why}"))
    };
    let (used, held) = (fetch("used"), fetch("held"));
    drop(fetch("gone"));
    std::fs::write(bench.path().join("partial").join("0".repeat(64)), vec![0; 5000]).expect("writes");
    let name = |layer: &PathBuf| layer.file_name().expect("a name").to_string_lossy().into_owned();
    let in_use =
        || InUse { layers: used.layers.iter().map(name).collect(), digests: HashSet::from([used.digest.clone()]) };
    let before = count(store.layers_dir());
    let said = prune(&store, true, in_use());
    assert_eq!((said.images.len(), said.layers, count(store.layers_dir())), (1, 1, before), "a dry run does nothing");
    assert_eq!(said.images[0].references, [bench.layout.reference("gone")]);
    let bytes = store.bytes().expect("counts");
    let done = prune(&store, false, in_use());
    assert_eq!(done, said, "what was said is what is done");
    assert!(bytes - store.bytes().expect("counts") >= done.bytes, "{}", done.bytes);
    assert_eq!(count(&bench.path().join("partial")), 0);
    for layer in used.layers.iter().chain(&held.layers) {
        assert!(layer.join("base").exists() || layer.join("own").exists(), "{}", layer.display());
    }
    assert_tidy(&bench.path());

    // Once nobody holds it, the other one goes too; the base stays for the one in use.
    drop(held);
    let done = prune(&store, false, in_use());
    assert_eq!((done.images.len(), done.layers), (1, 1));
    assert_eq!(store.images().expect("lists").len(), 1);
    let again = fetch("used");
    assert_eq!(again.layers, used.layers);
    drop((again, used));
    let done = prune(&store, false, InUse::default());
    assert_eq!((done.images.len(), done.layers, count(store.layers_dir())), (1, 2, 0));
    assert_eq!((count(&bench.path().join("refs")), count(&bench.path().join("blobs/sha256"))), (0, 0));
    fetch("gone");
}

#[test]
fn an_error_over_what_is_in_use_removes_nothing() {
    let bench = Bench::new(&["a"]);
    let store = bench.store();
    drop(ensure(&store, &bench.layout.reference("a"), &Options::default()).unwrap_or_else(|why| panic!("{why}")));
    let before = store.images().expect("lists");
    store.prune::<Error>(false, || Err(Error::Cancelled), |_| Ok(())).expect_err("what is in use cannot be told");
    assert_eq!(store.images().expect("lists"), before);
    assert_tidy(&bench.path());
}

#[test]
fn prunes_beside_fetches_take_nothing_that_is_held() {
    let bench = Bench::new(&["a", "b", "c"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let fetchers: Vec<_> = ["a", "b", "c"]
            .map(|tag| {
                let bench = &bench;
                scope.spawn(move || {
                    let store = bench.store();
                    for round in 0..40 {
                        let image = ensure(&store, &bench.layout.reference(tag), &Options::default());
                        let image = image.unwrap_or_else(|why| panic!("{tag}, round {round}: {why}"));
                        let own = std::fs::read_to_string(image.layers[1].join("own")).expect("is held");
                        assert!(own.starts_with(tag) && image.layers[0].join("base").exists(), "{tag}, round {round}");
                    }
                })
            })
            .into_iter()
            .collect();
        let pruner = scope.spawn(|| {
            let (store, mut removed) = (bench.store(), 0);
            while !done.load(Ordering::SeqCst) {
                removed += prune(&store, false, InUse::default()).layers;
            }
            removed
        });
        let results: Vec<_> = fetchers.into_iter().map(|fetcher| fetcher.join()).collect();
        done.store(true, Ordering::SeqCst);
        let removed = pruner.join().expect("prunes");
        assert!(results.iter().all(Result::is_ok) && removed > 10, "{removed} layers were pruned meanwhile");
    });
    assert_tidy(&bench.path());
}
