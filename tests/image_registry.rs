//! Pulling from a real registry: with and without credentials and TLS, several platforms, policies, what is not there.

#[path = "support/image.rs"]
mod support;

use alien_core::image::{Options, Progress, PullPolicy, RegistryOptions, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

const TOOLS: [&str; 2] = ["docker-registry", "skopeo"];

/// A registry with `acme/app:1`, a store, and a folder for all of it.
struct Bench {
    dir: tempfile::TempDir,
    layout: LayoutDir,
    registry: Registry,
    digest: String,
}

impl Bench {
    fn new(auth: Option<(&str, &str)>, tls: Option<(&Path, &Path)>) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let mut layout = LayoutDir::new(&dir.path().join("layout"));
        let layers = [
            Layer::gzip(Tar::default().file("bin/run", b"one").file("etc/a", b"a").end()),
            Layer::zstd(Tar::default().file("etc/b", b"b").end()),
            Layer::plain(Tar::default().file("etc/.wh.a", b"").end()),
        ];
        let image = layout.image(&layers, arch());
        let digest = layout.tag(image, "app");
        let registry = Registry::start(auth, tls);
        registry.push(&layout, "app", "acme/app:1", auth.map(|(user, pass)| format!("{user}:{pass}")).as_deref());
        Bench { dir, layout, registry, digest }
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).expect("opens")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host)
    }
}

#[test]
fn an_image_is_pulled_and_a_second_time_taken_from_the_store() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(None, None);
    let store = bench.store();
    let resolved = run(store.resolve(&parse(&bench.name("acme/app:1")), &Options::default())).expect("resolves");
    assert_eq!((resolved.digest.as_str(), resolved.cached), (bench.digest.as_str(), false));
    let (image, told) = ensure_told(&store, &bench.name("acme/app:1"), &Options::default());
    let image = image.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((image.digest.as_str(), image.layers.len()), (bench.digest.as_str(), 3));
    assert_eq!((image.config.cmd[0].as_str(), image.config.user.as_str()), ("/bin/run", "1000"));
    assert_eq!(std::fs::read(image.layers[0].join("bin/run")).expect("unpacked"), b"one");
    assert_eq!(std::fs::read(image.layers[1].join("etc/b")).expect("unpacked"), b"b");
    for layer in &image.layers {
        assert_eq!(layer.parent(), Some(store.layers_dir()));
        assert_eq!(layer.file_name().expect("a name").len(), 64);
    }
    assert_eq!(told.first(), Some(&Progress::Resolving));
    assert_eq!(told.last(), Some(&Progress::Ready));
    assert!(told.contains(&Progress::Resolved { digest: bench.digest.clone() }));
    assert!(told.contains(&Progress::Unpacking { layer: 3, layers: 3 }));
    let total = told.iter().find_map(|step| match step {
        Progress::Downloading { bytes, total_bytes } if bytes == total_bytes => Some(*bytes),
        _ => None,
    });
    assert!(total.is_some_and(|total| total > 100), "{told:?}");
    assert_tidy(&bench.path("store"));

    // The layers are kept once: no compressed blob is left, only a manifest and a configuration.
    assert_eq!(std::fs::read_dir(bench.path("store/blobs/sha256")).expect("blobs").count(), 2);

    // With the registry gone, what has a fixed tag or a digest is there, and `latest` as well, with a word about it.
    let Bench { dir, registry, digest, .. } = bench;
    let host = registry.host.clone();
    drop(registry);
    let store = Store::open(&dir.path().join("store")).expect("opens");
    let again = ensure(&store, &format!("{host}/acme/app:1"), &Options::default()).expect("cached");
    assert_eq!(again, image);
    let pinned = ensure(&store, &format!("{host}/acme/app@{digest}"), &Options::default()).expect("cached");
    assert_eq!(pinned.layers, image.layers);
    let always = Options { pull: PullPolicy::Always, ..Options::default() };
    let (cached, told) = ensure_told(&store, &format!("{host}/acme/app:1"), &always);
    assert_eq!(cached.expect("cached"), image);
    let reason = told.iter().find_map(|step| match step {
        Progress::UsingCached { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.is_some_and(|reason| reason.contains("connection refused")), "{told:?}");
    let resolved = run(store.resolve(&parse(&format!("{host}/acme/app:1")), &always)).expect("cached");
    assert!(resolved.cached && resolved.unreachable.is_some());

    let error = report(ensure(&store, &format!("{host}/acme/app:2"), &Options::default()).expect_err("not here"));
    assert_eq!((error.code.as_str(), error.retryable), ("REGISTRY_UNREACHABLE", true), "{error}");
    assert!(error.message.contains("connection refused (5 tries)") && error.message.contains(&host), "{error}");
}

#[test]
fn a_tag_that_moves_is_followed_as_the_policy_says() {
    if !have(&TOOLS) {
        return;
    }
    let mut bench = Bench::new(None, None);
    let store = bench.store();
    for name in ["acme/app:latest", "acme/app:1"] {
        bench.registry.push(&bench.layout, "app", name, None);
        ensure(&store, &bench.name(name), &Options::default()).expect("pulls");
    }
    let image = bench.layout.image(&[Layer::gzip(Tar::default().file("bin/run", b"two").end())], arch());
    let newer = bench.layout.tag(image, "newer");
    for name in ["acme/app:latest", "acme/app:1"] {
        bench.registry.push(&bench.layout, "newer", name, None);
    }
    let digest = |name: &str, pull| {
        let options = Options { pull, ..Options::default() };
        ensure(&store, &bench.name(name), &options).expect("pulls").digest
    };
    assert_eq!(digest("acme/app:latest", PullPolicy::IfNotPresent), bench.digest);
    assert_eq!(digest("acme/app:latest", PullPolicy::Auto), newer);
    assert_eq!(digest("acme/app:1", PullPolicy::Auto), bench.digest);
    assert_eq!(digest("acme/app:1", PullPolicy::Always), newer);
    assert_eq!(digest("acme/app:1", PullPolicy::Auto), newer);
}

#[test]
fn an_index_gives_this_machines_image() {
    if !have(&TOOLS) {
        return;
    }
    let mut bench = Bench::new(None, None);
    let other = if arch() == "amd64" { "arm64" } else { "amd64" };
    let own = bench.layout.image(&[Layer::gzip(Tar::default().file("own", b"").end())], arch());
    let wrong = bench.layout.image(&[Layer::gzip(Tar::default().file("other", b"").end())], other);
    let own_digest = own["digest"].clone();
    let inner = bench.layout.index(&[wrong.clone(), own.clone()]);
    let nested = bench.layout.index(std::slice::from_ref(&inner));
    let foreign = bench.layout.index(std::slice::from_ref(&wrong));
    for (descriptor, tag) in [(inner, "inner"), (nested, "nested"), (foreign, "foreign"), (wrong, "wrong")] {
        bench.layout.tag(descriptor, tag);
    }
    for tag in ["inner", "foreign", "wrong"] {
        bench.registry.push(&bench.layout, tag, &format!("acme/{tag}:1"), None);
    }
    let store = bench.store();
    let image = ensure(&store, &bench.name("acme/inner:1"), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(image.digest, own_digest);
    // The index' own digest means the same image, and is remembered for when the registry is gone.
    let nested =
        ensure(&store, &bench.layout.reference("nested"), &Options::default()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(nested.digest, own_digest);
    for tag in ["foreign", "wrong"] {
        let error = ensure(&store, &bench.name(&format!("acme/{tag}:1")), &Options::default()).expect_err(tag);
        let error = report(error);
        assert_eq!(error.code, "IMAGE_PLATFORM_MISMATCH", "{error}");
        assert!(
            error.message.contains(&format!("linux/{}", arch())) && error.message.contains(&format!("linux/{other}"))
        );
        assert_eq!(error.context["available"][0], format!("linux/{other}"));
    }
}

#[test]
fn what_is_not_there_is_said_with_registry_repository_and_tag() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(None, None);
    let store = bench.store();
    for (name, said) in [("acme/app:nope", "tag nope"), ("acme/nothing:1", "repository acme/nothing")] {
        let error = report(ensure(&store, &bench.name(name), &Options::default()).expect_err(name));
        assert_eq!((error.code.as_str(), error.http_status_code), ("IMAGE_NOT_FOUND", 404), "{error}");
        for part in [said, "404", &format!("registry {}", bench.registry.host), "MANIFEST_UNKNOWN"] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
        assert!(error.context.contains_key("repository") && error.hint.is_some());
    }
    let mirrored = mirror("ghcr.io", &format!("http://{}/", bench.registry.host));
    let error = report(ensure(&store, "ghcr.io/acme/app:nope", &mirrored).expect_err("not there"));
    assert!(error.message.contains("registry ghcr.io through its mirror http://127.0.0.1:"), "{error}");
    assert_eq!(ensure(&store, "ghcr.io/acme/app:1", &mirrored).expect("pulls").digest, bench.digest);
    let hub = mirror("docker.io", &format!("http://{}", bench.registry.host));
    let error = report(ensure(&store, "nginx", &hub).expect_err("not there"));
    assert!(error.message.contains("repository library/nginx, tag latest"), "{error}");
    assert_tidy(&bench.path("store"));
}

#[test]
fn a_registry_with_passwords_opens_to_the_right_one() {
    if !have(&["docker-registry", "skopeo", "htpasswd"]) {
        return;
    }
    let bench = Bench::new(Some(("me", "s3cret:x")), None);
    let name = bench.name("acme/app:1");
    let host = &bench.registry.host;
    let store = bench.store();
    let with = |password: &str| {
        let (username, password) = (Some("me".to_owned()), Some(password.to_owned()));
        with_registry(host, RegistryOptions { username, password, ..RegistryOptions::default() })
    };
    let config = |text: String| {
        let path = bench.path("config.json");
        std::fs::write(&path, text).expect("writes");
        Options { docker_config: Some(path), ..Options::default() }
    };

    let error = report(ensure(&store, &name, &Options::default()).expect_err("no password"));
    assert_eq!(error.code, "IMAGE_UNAUTHORIZED", "{error}");
    assert!(error.message.contains("answered 401, and no credentials are known"), "{error}");
    let error = report(ensure(&store, &name, &with("wr0ng")).expect_err("a wrong password"));
    assert!(error.message.contains("answered 401 to the credentials it was given"), "{error}");
    assert!(!format!("{error:?}").contains("wr0ng"));
    // A password for another host stays at home.
    let other = config(r#"{"auths":{"ghcr.io":{"username":"me","password":"s3cret:x"}}}"#.into());
    assert_eq!(ensure(&store, &name, &other).expect_err("another host's").code(), "IMAGE_UNAUTHORIZED");
    let mut mirrored = mirror("ghcr.io", &format!("http://{host}"));
    mirrored.docker_config.clone_from(&other.docker_config);
    assert_eq!(
        ensure(&store, "ghcr.io/acme/app:1", &mirrored).expect_err("the registry's").code(),
        "IMAGE_UNAUTHORIZED"
    );

    let auth = "bWU6czNjcmV0Ong="; // me:s3cret:x
    for options in [with("s3cret:x"), config(format!(r#"{{"auths":{{"http://{host}/v2/":{{"auth":"{auth}"}}}}}}"#))] {
        let store = Store::open(&bench.path(&format!("store-{}", options.docker_config.is_some()))).expect("opens");
        assert_eq!(ensure(&store, &name, &options).unwrap_or_else(|why| panic!("{why}")).digest, bench.digest);
    }
    let broken = config("{".into());
    let error = report(ensure(&store, &name, &broken).expect_err("a broken file"));
    assert!(error.message.contains("config.json") && error.message.contains("line 1"), "{error}");
}

#[test]
fn a_credential_helper_is_asked() {
    if !have(&["docker-registry", "skopeo", "htpasswd", "sh"]) {
        return;
    }
    // A helper is found by PATH, so the test runs itself again with one in front.
    if std::env::var_os("ALIEN_TEST_HELPER_HOST").is_none() {
        let bench = Bench::new(Some(("me", "pw")), None);
        let bin = bench.path("bin");
        std::fs::create_dir(&bin).expect("a folder");
        let helper = bin.join("docker-credential-test");
        let script = format!(
            "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get {}' ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\necho '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pw\"}}'\n",
            bench.registry.host
        );
        std::fs::write(&helper, script).expect("writes");
        std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        let mut path = vec![bin];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_credential_helper_is_asked", "--nocapture"])
            .env("PATH", std::env::join_paths(path).expect("a path"))
            .env("ALIEN_TEST_HELPER_HOST", &bench.registry.host)
            .status()
            .expect("runs");
        assert!(status.success());
        return;
    }
    let host = std::env::var("ALIEN_TEST_HELPER_HOST").expect("given");
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("config.json");
    for text in [r#"{"credsStore":"test"}"#.to_owned(), format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#)] {
        std::fs::write(&config, text).expect("writes");
        let options = Options { docker_config: Some(config.clone()), ..Options::default() };
        let store = Store::open(&dir.path().join("store")).expect("opens");
        ensure(&store, &format!("{host}/acme/app:1"), &options).unwrap_or_else(|why| panic!("{why}"));
        std::fs::remove_dir_all(dir.path().join("store")).expect("removes");
    }
}

#[test]
fn tls_is_verified_against_the_given_ca() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let openssl = |args: &str| {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(dir.path()).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(path("san"), "subjectAltName=IP:127.0.0.1\n").expect("writes");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=registry");
    openssl("x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile san");
    let bench = Bench::new(None, Some((&path("cert.pem"), &path("key.pem"))));
    let store = bench.store();
    let name = bench.name("acme/app:1");
    let with = |ca_file: Option<PathBuf>, mirror: Option<String>| {
        let mirrors = mirror.into_iter().collect();
        with_registry(&bench.registry.host, RegistryOptions { ca_file, mirrors, ..RegistryOptions::default() })
    };
    let image = ensure(&store, &name, &with(Some(path("ca.pem")), None)).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(image.digest, bench.digest);

    let store = Store::open(&bench.path("other")).expect("opens");
    let url = format!("https://{}", bench.registry.host);
    let error = report(ensure(&store, &name, &with(None, Some(url))).expect_err("an unknown CA"));
    assert_eq!(error.code, "REGISTRY_UNREACHABLE", "{error}");
    assert!(error.message.contains("certificate") && error.message.contains("1 try"), "{error}");
    for (file, part) in [("key.pem", "holds no certificate"), ("nothing", "No such file")] {
        let error = report(ensure(&store, &name, &with(Some(path(file)), None)).expect_err(file));
        assert_eq!(error.code, "IMAGE_OPTIONS_INVALID", "{error}");
        assert!(error.message.contains(part) && error.message.contains(file), "{error}");
    }
    // Plain HTTP to a registry that speaks TLS, and the other way round.
    let error = report(ensure(&store, &name, &Options::default()).expect_err("plain HTTP"));
    assert_eq!(error.code, "REGISTRY_UNREACHABLE", "{error}");
    let plain = Registry::start(None, None);
    let url = format!("https://{}", plain.host);
    let error = report(ensure(&store, "q.io/a:1", &mirror("q.io", &url)).expect_err("no TLS"));
    assert!(error.message.contains("does not speak TLS") && error.message.contains(&url), "{error}");
}

#[test]
fn tokens_are_fetched_with_the_credential_and_only_for_its_host() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(None, None);
    // A token server and a registry that believes it, in front of the real one.
    let proxy = Proxy::start(&bench.registry.host, |request| {
        if request.path.starts_with("/token") {
            let known = request.headers.get("authorization").is_some_and(|value| value == "Basic bWU6cHc=")
                || request.body.contains("refresh_token=idtoken");
            let (status, body) =
                if known { ("200 OK", r#"{"access_token":"tok"}"#) } else { ("401 Unauthorized", "{}") };
            return Action::Answer(status, Vec::new(), body.as_bytes().to_vec());
        }
        if request.headers.get("authorization").is_some_and(|value| value == "Bearer tok") {
            return Action::Pass(request.path.clone());
        }
        let host = &request.headers["host"];
        let challenge =
            format!(r#"Bearer realm="http://{host}/token?a=b",service="svc",scope="repository:acme/app:pull""#);
        Action::Answer("401 Unauthorized", vec![("WWW-Authenticate".into(), challenge)], Vec::new())
    });
    let name = format!("{}/acme/app:1", proxy.host);
    let store = bench.store();
    let error = report(ensure(&store, &name, &Options::default()).expect_err("anonymous"));
    assert_eq!(error.code, "IMAGE_UNAUTHORIZED", "{error}");
    assert!(error.message.contains("the token server 127.0.0.1:") && error.message.contains("401"), "{error}");

    for (kind, entry) in [("basic", r#"{"auth":"bWU6cHc="}"#), ("identity", r#"{"identitytoken":"idtoken"}"#)] {
        let config = bench.path(kind);
        std::fs::write(&config, format!(r#"{{"auths":{{"{}":{entry}}}}}"#, proxy.host)).expect("writes");
        let options = Options { docker_config: Some(config), ..Options::default() };
        let store = Store::open(&bench.path(&format!("store-{kind}"))).expect("opens");
        assert_eq!(ensure(&store, &name, &options).unwrap_or_else(|why| panic!("{why}")).digest, bench.digest);
    }
    let seen = proxy.seen();
    let token = seen.iter().find(|request| request.path.starts_with("/token")).expect("was asked");
    assert_eq!(token.path, "/token?a=b&service=svc&scope=repository%3Aacme%2Fapp%3Apull");
    assert!(seen.iter().all(|request| !request.path.contains("idtoken") && !request.path.contains("pw")));
}

#[test]
fn a_mirror_may_have_a_prefix_and_a_redirect_carries_no_credential_elsewhere() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(None, None);
    let elsewhere = Proxy::start(&bench.registry.host, |request| Action::Pass(request.path.clone()));
    let target = elsewhere.host.clone();
    let front = Proxy::start(&bench.registry.host, move |request| {
        let Some(path) = request.path.strip_prefix("/some/prefix") else {
            return Action::Answer("404 Not Found", Vec::new(), Vec::new());
        };
        if request.headers.get("authorization").is_none_or(|value| value != "Basic bWU6cHc=") {
            let challenge = r#"Basic realm="front""#.to_owned();
            return Action::Answer("401 Unauthorized", vec![("WWW-Authenticate".into(), challenge)], Vec::new());
        }
        if path.contains("/blobs/") {
            let location = format!("http://{target}{path}?signature=secret");
            return Action::Answer("307 Temporary Redirect", vec![("Location".into(), location)], Vec::new());
        }
        Action::Pass(path.to_owned())
    });
    let of_mirror =
        RegistryOptions { username: Some("me".into()), password: Some("pw".into()), ..RegistryOptions::default() };
    let to_mirror =
        RegistryOptions { mirrors: vec![format!("http://{}/some/prefix/", front.host)], ..RegistryOptions::default() };
    let registries = BTreeMap::from([("ghcr.io".to_owned(), to_mirror), (front.host.clone(), of_mirror)]);
    let options = Options { registries, ..Options::default() };
    let image = ensure(&bench.store(), "ghcr.io/acme/app:1", &options).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(image.digest, bench.digest);
    let redirected = elsewhere.seen();
    assert_eq!(redirected.len(), 4, "a configuration and three layers");
    assert!(redirected.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn two_at_once_both_succeed() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new(None, None);
    let proxy = Proxy::start(&bench.registry.host, |request| Action::Pass(request.path.clone()));
    let reference = parse(&format!("{}/acme/app:1", proxy.host));
    // Spawned, as the engine does with several daemons: the call can move between threads.
    let pull = |store: Store| {
        let reference = reference.clone();
        async move { store.ensure(&reference, &Options::default(), &|_| {}).await }
    };
    let (one, two) = (bench.store(), bench.store());
    let (first, second) = run(async { tokio::join!(tokio::spawn(pull(one)), tokio::spawn(pull(two))) });
    assert_eq!(first.expect("ends").expect("first"), second.expect("ends").expect("second"));
    let layers = proxy.seen().iter().filter(|request| request.path.contains("/blobs/")).count();
    assert!(layers <= 5, "in one process each layer is fetched once, the configuration perhaps twice: {layers}");
    assert_tidy(&bench.path("store"));
}
