//! What the image tests share: hand-made layers and layouts, a real registry, and a proxy that makes faults.

#![allow(dead_code)] // each test file uses its part

use alien_core::image::{Error, Image, Options, Progress, RegistryOptions, Store};
use alien_core::model::image_reference::ImageReference;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Says why a test cannot run here; a failure where everything must be there.
pub fn skip(why: &str) {
    assert_ne!(std::env::var("ALIEN_TEST_REQUIRE").as_deref(), Ok("all"), "required: {why}");
    println!("skipped: {why}");
}

/// Whether these programs are installed; says so when not.
pub fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    });
    if let Some(missing) = missing {
        skip(&format!("{missing} is not installed"));
    }
    missing.is_none()
}

/// A folder with a store in it, for images that come from files.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("store")).expect("opens");
        Bench { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar stream, every field of which may be a lie.
#[derive(Default)]
pub struct Tar {
    pub bytes: Vec<u8>,
}

/// The header of one entry.
#[derive(Clone)]
pub struct Head<'a> {
    pub kind: u8,
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub mode: u32,
    pub owner: (u32, u32),
    pub device: (u32, u32),
    /// What the size field says; the contents' length when `None`.
    pub size: Option<u64>,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Head { kind: b'0', path: b"", link: b"", mode: 0o644, owner: (0, 0), device: (0, 0), size: None }
    }
}

impl Tar {
    pub fn head(mut self, head: &Head, contents: &[u8]) -> Self {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let octal = |value: u64, width: usize| format!("{value:0width$o}", width = width - 1).into_bytes();
        if head.path.len() > 100 {
            self = self.long(b'L', head.path);
        }
        if head.link.len() > 100 {
            self = self.long(b'K', head.link);
        }
        put(0, &head.path[..head.path.len().min(100)]);
        put(100, &octal(head.mode.into(), 8));
        put(108, &octal(head.owner.0.into(), 8));
        put(116, &octal(head.owner.1.into(), 8));
        let size = head.size.unwrap_or(contents.len() as u64);
        if size < 1 << 33 {
            put(124, &octal(size, 12));
        } else {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
        put(136, &octal(1_700_000_000, 12));
        put(156, &[head.kind]);
        put(157, &head.link[..head.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, &octal(head.device.0.into(), 8));
        put(337, &octal(head.device.1.into(), 8));
        put(148, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self.padded(contents)
    }

    fn padded(mut self, contents: &[u8]) -> Self {
        self.bytes.extend_from_slice(contents);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn long(self, kind: u8, text: &[u8]) -> Self {
        let contents = [text, &[0]].concat();
        self.head(&Head { kind, path: b"././@LongLink", ..Head::default() }, &contents)
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut contents = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length += 1;
            }
            contents.extend_from_slice(format!("{length} {key}=").as_bytes());
            contents.extend_from_slice(value);
            contents.push(b'\n');
        }
        self.head(&Head { kind: b'x', path: b"PaxHeader", ..Head::default() }, &contents)
    }

    pub fn dir(self, path: &str) -> Self {
        self.dir_mode(path, 0o755)
    }

    pub fn dir_mode(self, path: &str, mode: u32) -> Self {
        self.head(&Head { kind: b'5', path: path.as_bytes(), mode, ..Head::default() }, b"")
    }

    pub fn file(self, path: &str, contents: &[u8]) -> Self {
        self.head(&Head { path: path.as_bytes(), ..Head::default() }, contents)
    }

    pub fn owned(self, path: &str, uid: u32, gid: u32) -> Self {
        self.head(&Head { path: path.as_bytes(), owner: (uid, gid), ..Head::default() }, b"owned")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.head(&Head { kind: b'2', path: path.as_bytes(), link: target.as_bytes(), ..Head::default() }, b"")
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.head(&Head { kind: b'1', path: path.as_bytes(), link: target.as_bytes(), ..Head::default() }, b"")
    }

    /// The stream with its two blocks of zeros.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

/// A layer as it lies in a layout: its compressed bytes, its media type, and the digest of its contents.
#[derive(Clone)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub media_type: String,
    pub diff_id: String,
}

impl Layer {
    pub fn gzip(tar: Vec<u8>) -> Layer {
        Layer { blob: gzip(&tar), media_type: layer_type("+gzip"), diff_id: sha256(&tar) }
    }

    pub fn zstd(tar: Vec<u8>) -> Layer {
        let blob = zstd::encode_all(&tar[..], 1).expect("compresses");
        Layer { blob, media_type: layer_type("+zstd"), diff_id: sha256(&tar) }
    }

    pub fn plain(tar: Vec<u8>) -> Layer {
        Layer { diff_id: sha256(&tar), blob: tar, media_type: layer_type("") }
    }
}

fn layer_type(compression: &str) -> String {
    format!("application/vnd.oci.image.layer.v1.tar{compression}")
}

/// Go's name of this machine's processor.
pub fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An image layout in a folder, to which images can be added.
pub struct LayoutDir {
    pub dir: PathBuf,
    index: Vec<serde_json::Value>,
}

impl LayoutDir {
    pub fn new(dir: &Path) -> LayoutDir {
        std::fs::create_dir_all(dir.join("blobs/sha256")).expect("makes a layout");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writes");
        LayoutDir { dir: dir.to_owned(), index: Vec::new() }
    }

    /// Puts a blob in; returns its digest.
    pub fn blob(&self, bytes: &[u8]) -> String {
        let hex = sha256(bytes);
        std::fs::write(self.dir.join("blobs/sha256").join(&hex), bytes).expect("writes a blob");
        format!("sha256:{hex}")
    }

    /// Puts an image in without naming it; returns its descriptor.
    pub fn image(&self, layers: &[Layer], architecture: &str) -> serde_json::Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/run"], "Env": ["PATH=/bin"], "User": "1000"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let descriptors: Vec<serde_json::Value> = layers
            .iter()
            .map(|layer| {
                let digest = self.blob(&layer.blob);
                serde_json::json!({"mediaType": layer.media_type, "digest": digest, "size": layer.blob.len()})
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": descriptors,
        });
        self.descriptor(&manifest, architecture)
    }

    /// Puts a manifest in; returns its descriptor.
    pub fn descriptor(&self, manifest: &serde_json::Value, architecture: &str) -> serde_json::Value {
        let text = manifest.to_string();
        serde_json::json!({
            "mediaType": manifest["mediaType"], "digest": self.blob(text.as_bytes()), "size": text.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    }

    /// Puts an index of several images in; returns its descriptor, without a platform.
    pub fn index(&self, manifests: &[serde_json::Value]) -> serde_json::Value {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
        });
        let mut descriptor = self.descriptor(&index, "");
        descriptor.as_object_mut().expect("an object").remove("platform");
        descriptor
    }

    /// Gives what a descriptor names a tag; returns its digest.
    pub fn tag(&mut self, mut descriptor: serde_json::Value, tag: &str) -> String {
        descriptor["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
        self.index.push(descriptor);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.index});
        std::fs::write(self.dir.join("index.json"), index.to_string()).expect("writes");
        digest
    }

    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.dir.display())
    }
}

/// Runs `future` to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub fn parse(reference: &str) -> ImageReference {
    ImageReference::parse(reference).unwrap_or_else(|why| panic!("{reference}: {why}"))
}

pub fn ensure(store: &Store, reference: &str, options: &Options) -> Result<Image, Error> {
    run(store.ensure(&parse(reference), options, &|_| {}))
}

/// As [`ensure`], with all that was told on the way.
pub fn ensure_told(store: &Store, reference: &str, options: &Options) -> (Result<Image, Error>, Vec<Progress>) {
    let told = Mutex::new(Vec::new());
    let image = run(store.ensure(&parse(reference), options, &|progress| told.lock().expect("told").push(progress)));
    (image, told.into_inner().expect("told"))
}

/// Options with something special about one registry.
pub fn with_registry(host: &str, registry: RegistryOptions) -> Options {
    Options { registries: BTreeMap::from([(host.to_owned(), registry)]), ..Options::default() }
}

pub fn mirror(host: &str, url: &str) -> Options {
    with_registry(host, RegistryOptions { mirrors: vec![url.to_owned()], ..RegistryOptions::default() })
}

/// The code, message and hint of an error as a user sees them.
pub fn report(error: Error) -> alien_core::error::Report {
    error.into()
}

/// Nothing half made and no lock is left.
pub fn assert_tidy(store_dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(store_dir.join("tmp")).expect("tmp").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// A real registry, gone when dropped.
pub struct Registry {
    child: Child,
    pub host: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts one; `auth` is a user and a password, `tls` a certificate and its key.
    pub fn start(auth: Option<(&str, &str)>, tls: Option<(&Path, &Path)>) -> Registry {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
            path("data")
        );
        if let Some((user, password)) = auth {
            let line = Command::new("htpasswd").args(["-nbB", user, password]).output().expect("htpasswd runs");
            std::fs::write(path("htpasswd"), line.stdout.trim_ascii()).expect("writes");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd"));
        }
        let port = free_port();
        let host = format!("127.0.0.1:{port}");
        config += &format!("http:\n  addr: {host}\n");
        if let Some((certificate, key)) = tls {
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", certificate.display(), key.display());
        }
        std::fs::write(path("config.yml"), config).expect("writes");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let registry = Registry { child, host, _dir: dir };
        let started = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        registry
    }

    /// Copies an image of a layout here, with all of its platforms.
    pub fn push(&self, layout: &LayoutDir, tag: &str, name: &str, credentials: Option<&str>) {
        let mut command = Command::new("skopeo");
        command.args([
            "copy",
            "--quiet",
            "--all",
            "--insecure-policy",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        if let Some(credentials) = credentials {
            command.args(["--dest-creds", credentials]);
        }
        let target = format!("docker://{}/{name}", self.host);
        let output = command.args([&layout.reference(tag), &target]).output().expect("skopeo runs");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("an address").port()
}

/// A request as the proxy sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What the proxy does with a request.
pub enum Action {
    /// Hands it on, with this path, and the answer back.
    Pass(String),
    /// Hands it on, and cuts the connection after so many bytes of the answer's body.
    Cut(usize),
    /// Hands it on, and sends a body in which one byte is another.
    Spoil,
    /// Answers itself: status line, further headers, body.
    Answer(&'static str, Vec<(String, String)>, Vec<u8>),
    /// Closes the connection without a word.
    Close,
    /// Sends so many bytes of the answer's body, then nothing until the proxy is dropped.
    Stall(usize),
}

/// Stands before a registry and does with each request what a script says.
pub struct Proxy {
    pub host: String,
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    pub fn start(upstream: &str, script: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let host = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, upstream, log) = (Arc::new(script), upstream.to_owned(), seen.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (script, upstream, log) = (script.clone(), upstream.clone(), log.clone());
                std::thread::spawn(move || {
                    let _ = serve(client, &upstream, &*script, &log);
                });
            }
        });
        Proxy { host, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("seen").clone()
    }
}

fn serve(
    client: TcpStream,
    upstream: &str,
    script: &(dyn Fn(&Request) -> Action + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() };
    log.lock().expect("log").push(request.clone());
    let ask = |path: &str| -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let mut stream = TcpStream::connect(upstream)?;
        write!(stream, "{} {path} HTTP/1.1\r\nConnection: close\r\n", request.method)?;
        for (name, value) in request.headers.iter().filter(|(name, _)| *name != "connection") {
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let body = answer.split_off(end);
        Ok((answer, body))
    };
    match script(&request) {
        Action::Pass(path) => {
            let (head, body) = ask(&path)?;
            client.write_all(&head)?;
            client.write_all(&body)
        }
        Action::Cut(after) => {
            let (head, body) = ask(&request.path)?;
            client.write_all(&head)?;
            client.write_all(&body[..after.min(body.len())])
        }
        Action::Spoil => {
            let (head, mut body) = ask(&request.path)?;
            let middle = body.len() / 2;
            body[middle] ^= 1;
            client.write_all(&head)?;
            client.write_all(&body)
        }
        Action::Answer(status, headers, body) => {
            write!(client, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len())?;
            for (name, value) in headers {
                write!(client, "{name}: {value}\r\n")?;
            }
            write!(client, "\r\n")?;
            client.write_all(&body)
        }
        Action::Close => Ok(()),
        Action::Stall(after) => {
            let (head, body) = ask(&request.path)?;
            client.write_all(&head)?;
            client.write_all(&body[..after.min(body.len())])?;
            // Until the other side hangs up.
            reader.read_to_end(&mut Vec::new()).map(|_| ())
        }
    }
}
