//! Reaching a container engine, Docker or Podman, by the Docker API.
//!
//! An address names all that it takes to reach one again, for deployments remember it: the socket's file, the host and port,
//! and with TLS the folder of the certificates too.

use super::error::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::time::Duration;

/// Where an engine listens unless it is told otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Why an engine is not reached.
#[derive(Debug)]
pub enum Unreached {
    /// The address is none that engines are asked at.
    Address { host: String },
    /// The certificates to ask it with cannot be used.
    Certificates { host: String, why: String },
    /// Nobody answers there.
    Unanswered { why: String },
}

/// The address of the engine at `host` where it is asked by TLS, with the certificates of a folder. Only what is at a port is.
pub fn with_certificates(host: &str, folder: &Path) -> String {
    match host.strip_prefix("tcp://") {
        Some(address) => format!("tls://{}{}", address.trim_end_matches('/'), folder.display()),
        None => host.to_owned(),
    }
}

/// Asks the engine at `host` (`unix://PATH` or `tcp://HOST:PORT`, as in `DOCKER_HOST`, or `tls://HOST:PORT/FOLDER`) which
/// version of the API it speaks. Whoever answers is reached; `patience` is how long each later request may go without an
/// answer.
///
/// # Errors
/// [`Unreached`].
pub async fn connect(host: &str, patience: Duration) -> Result<Docker, Unreached> {
    let seconds = patience.as_secs();
    let no_address = || Unreached::Address { host: host.to_owned() };
    let engine = match host.split_once("://") {
        Some(("unix", path)) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
        Some(("tcp" | "http", address)) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        Some(("tls", rest)) => {
            let (address, folder) = rest.find('/').map(|at| rest.split_at(at)).ok_or_else(no_address)?;
            let tls = client_config(Path::new(folder))
                .map_err(|why| Unreached::Certificates { host: host.to_owned(), why })?;
            connect_with_tls(address, tls, seconds)
        }
        _ => return Err(no_address()),
    };
    let unanswered = |why: bollard::errors::Error| Unreached::Unanswered { why: said(&why) };
    engine.map_err(unanswered)?.negotiate_version().await.map_err(unanswered)
}

/// bollard's own way trusts all authorities of the machine, and keeps quiet about certificates that it cannot read.
fn connect_with_tls(address: &str, tls: ClientConfig, seconds: u64) -> Result<Docker, bollard::errors::Error> {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    // A connection for each request, as bollard has it: those of programs and logs are not given back.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(bollard::errors::Error::from) }
    };
    let address = format!("https://{address}");
    Docker::connect_with_custom_transport(transport, Some(address), seconds, API_DEFAULT_VERSION)
}

/// What the docker command makes of such a folder: `ca.pem` alone is trusted; `cert.pem` and `key.pem` are shown where they
/// are there.
fn client_config(folder: &Path) -> Result<ClientConfig, String> {
    let [ca, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
    let mut roots = RootCertStore::empty();
    for authority in certificates(&ca)? {
        roots.add(authority).map_err(|why| format!("{} cannot be used: {why}", ca.display()))?;
    }
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots);
    if !certificate.exists() && !key.exists() {
        return Ok(config.with_no_client_auth());
    }
    let chain = certificates(&certificate)?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|why| unread(&key, "private key", &why))?;
    config
        .with_client_auth_cert(chain, private)
        .map_err(|why| format!("{} and {} cannot be used together: {why}", certificate.display(), key.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    const CERTIFICATE: &str = "certificate";
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(unread(file, CERTIFICATE, &pem::Error::NoItemsFound)),
        all => all.map_err(|why| unread(file, CERTIFICATE, &why)),
    }
}

fn unread(file: &Path, wanted: &str, why: &pem::Error) -> String {
    let file = file.display();
    match why {
        pem::Error::NoItemsFound => format!("{file} holds no {wanted}: it is to be PEM"),
        pem::Error::Io(why) => format!("{file} cannot be read: {why}"),
        why => format!("{file} cannot be read: {why}"),
    }
}

/// The error of an address that is none.
pub fn no_address(host: &str) -> Error {
    Error::Options {
        what: format!("the Docker engine's address {host:?} is none that an engine is asked at"),
        hint: "give DOCKER_HOST (dockerHost) as unix:///PATH or tcp://HOST:PORT, with DOCKER_TLS_VERIFY=1 and \
               DOCKER_CERT_PATH where it speaks TLS; of one behind ssh, images can be saved there and used as \
               docker-archive:FILE"
            .to_owned(),
    }
}

/// The error of certificates that cannot be used.
pub fn no_certificates(host: &str, why: &str) -> Error {
    Error::Options {
        what: format!("the container engine at {host} cannot be asked by TLS: {why}"),
        hint: CERTIFICATES.to_owned(),
    }
}

/// What to do about certificates.
pub const CERTIFICATES: &str = "DOCKER_CERT_PATH, else ~/.docker, is the folder of ca.pem, whose certificates sign the engine's, \
                                and of cert.pem and key.pem, which it may want to see";

/// An error's last cause: those before it say only that there was one.
pub fn said(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
