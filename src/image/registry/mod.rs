//! A client of the OCI distribution specification 1.1: pulling, and pushing of what is in memory.
//!
//! [`Registries`] is a registry with its mirrors, [`Registry`] one of them.
//!
//! Written on `reqwest` rather than `oci-client`, because of what that one does not give: downloads that go on where
//! they were cut, a mirror with a path prefix, a redirect that never carries a credential to another host, deadlines,
//! and 401, 404 and "no answer" told apart.
//!
//! A request is tried up to [`TRIES`] times, with growing pauses, when the connection fails or the server says that it
//! cannot now (408, 429, 5xx). Connections have [`CONNECT_TIMEOUT`], and each wait for bytes [`READ_TIMEOUT`]: however
//! a registry behaves, a pull ends.

mod auth;
pub(super) mod credentials;
mod endpoint;
mod failure;
mod mirrors;
mod push;
mod transfer;

use super::Options;
use super::digest::Digest;
use super::error::{Error, Place, Result};
use super::manifest::{ACCEPT, Descriptor, MANIFEST_MAX};
use crate::model::image_reference::RegistryReference;
use auth::Challenge;
use credentials::Credential;
use endpoint::Endpoint;
use failure::{Failed, Pauses, causes, describe, said};
pub(super) use mirrors::Registries;
pub(super) use push::Blob;
use reqwest::header::{ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How often a request is tried before the registry counts as not reachable.
pub(super) const TRIES: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
const TOKEN_MAX: u64 = 1 << 20;

/// A repository of a registry.
pub(super) struct Registry {
    place: Place,
    repository: String,
    endpoint: Endpoint,
    /// For requests in the clear: needs no certificates, which take milliseconds to load.
    plain: Client,
    tls: OnceLock<Result<Client, String>>,
    docker_config: Option<std::path::PathBuf>,
    from_options: Option<Credential>,
    authorization: Mutex<Option<String>>,
    /// What a token is asked for that the registry names no scope for.
    actions: &'static str,
}

impl Registry {
    /// A client for the repository of `reference`, there or at a mirror; nothing is sent yet.
    pub(super) fn new(reference: &RegistryReference, mirror: Option<&str>, options: &Options) -> Result<Registry> {
        // Another part of the process may have installed one; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = Endpoint::of(&reference.registry, mirror, &options.registries)?;
        let place = Place {
            reference: reference.to_string(),
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            tag: reference.tag.clone(),
            digest: reference.digest.clone(),
            mirror: endpoint.mirror.clone(),
        };
        let given = options.registries.get(&endpoint.credentials_for);
        let from_options = given.and_then(|given| {
            let (username, password) = (given.username.clone()?, given.password.clone()?);
            Some(Credential::Password { username, password })
        });
        let provider = rustls::crypto::ring::default_provider().into();
        let no_roots = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| unusable(&why.to_string()))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let plain = builder().tls_backend_preconfigured(no_roots).build().map_err(|why| unusable(&why.to_string()))?;
        Ok(Registry {
            place,
            repository: reference.repository.clone(),
            endpoint,
            plain,
            tls: OnceLock::new(),
            docker_config: options.docker_config.clone(),
            from_options,
            authorization: Mutex::new(None),
            actions: "pull",
        })
    }

    /// What errors about this repository say of it.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The manifest or index under a tag or a digest, and its digest, verified where it can be.
    pub(super) async fn manifest(&self, tag_or_digest: &str, tries: u32) -> Result<(Digest, Vec<u8>)> {
        let (bytes, said) = self.document(&format!("manifests/{tag_or_digest}"), MANIFEST_MAX, tries).await?;
        let digest = Digest::of(&bytes);
        let expected = if tag_or_digest.starts_with("sha256:") { Some(tag_or_digest.to_owned()) } else { said };
        match expected.filter(|expected| expected.starts_with("sha256:") && *expected != digest.to_string()) {
            Some(expected) => Err(self.corrupt(format!("its manifest has the digest {digest}, not {expected}"))),
            None => Ok((digest, bytes)),
        }
    }

    /// A small blob (a configuration), verified.
    pub(super) async fn small_blob(&self, descriptor: &Descriptor, max: u64, tries: u32) -> Result<Vec<u8>> {
        let (bytes, _) = self.document(&format!("blobs/{}", descriptor.digest), max, tries).await?;
        let digest = Digest::of(&bytes);
        if digest == descriptor.digest {
            Ok(bytes)
        } else {
            Err(self.corrupt(format!("its configuration has the digest {digest}, not {}", descriptor.digest)))
        }
    }

    /// A body of at most `max` bytes, and the digest that the answer's header claims.
    async fn document(&self, path: &str, max: u64, tries: u32) -> Result<(Vec<u8>, Option<String>)> {
        let mut pauses = Pauses::new(tries);
        loop {
            let outcome = async {
                let mut response = self.get(path, 0).await?;
                let header = response.headers().get("docker-content-digest");
                let said = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
                let body = self.body(&mut response, max).await?;
                Ok((body, said))
            };
            match outcome.await {
                Ok(found) => return Ok(found),
                Err(failed) => pauses.after(failed, self).await?,
            }
        }
    }

    async fn body(&self, response: &mut Response, max: u64) -> Result<Vec<u8>, Failed> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|why| self.failed(why))? {
            if (body.len() + chunk.len()) as u64 > max {
                return Err(Failed::Final(
                    self.corrupt(format!("its manifest or configuration has more than {max} bytes")),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// One GET of the repository, from byte `from` on, authorised as the registry asks. The answer is 200, or
    /// 206 or 416 where a part was asked for.
    async fn get(&self, path: &str, from: u64) -> Result<Response, Failed> {
        let text = format!("{}/v2/{}/{path}", self.endpoint.base, self.repository);
        let url =
            Url::parse(&text).map_err(|why| Failed::Final(self.corrupt(format!("{text} is not a URL: {why}"))))?;
        let mut challenged = None;
        loop {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (response, from_us) = self.follow(url.clone(), authorization.as_deref(), from).await?;
            let status = response.status();
            // A challenge counts only from the registry itself, never from where it redirected to.
            if status == StatusCode::UNAUTHORIZED && from_us && challenged.is_none() {
                challenged = Some(self.authorize(&response).await?);
                continue;
            }
            let partial = matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
            if status == StatusCode::OK || (partial && from > 0) {
                return Ok(response);
            }
            return Err(self.refused(response, path, challenged.unwrap_or(Authorized::default())).await);
        }
    }

    /// Sends a GET and follows redirects; says whether the answer came from the registry's own host.
    async fn follow(&self, mut url: Url, authorization: Option<&str>, from: u64) -> Result<(Response, bool), Failed> {
        for _ in 0..=REDIRECTS_MAX {
            let from_us = url.origin() == self.endpoint.url.origin();
            let mut request = self.client(&url)?.get(url.clone()).header(ACCEPT_HEADER, ACCEPT);
            if let Some(authorization) = authorization.filter(|_| from_us) {
                request = request.header(AUTHORIZATION, authorization);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(|why| self.failed(why))?;
            if !response.status().is_redirection() {
                return Ok((response, from_us));
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok());
            match target {
                Some(target) if self.endpoint.allows(&target) => url = target,
                Some(target) => {
                    let why = format!("it redirects to {} over plain HTTP", host(&target));
                    return Err(Failed::Final(self.unreachable(why, 1)));
                }
                None => return Err(Failed::Final(self.unreachable("it redirects to nowhere".to_owned(), 1))),
            }
        }
        Err(Failed::Final(self.unreachable(format!("it redirects more than {REDIRECTS_MAX} times"), 1)))
    }

    fn client(&self, url: &Url) -> Result<&Client, Failed> {
        if url.scheme() != "https" {
            return Ok(&self.plain);
        }
        self.tls.get_or_init(|| self.tls_client()).as_ref().map_err(|why| Failed::Final(unusable(why)))
    }

    fn tls_client(&self) -> Result<Client, String> {
        let mut builder = builder();
        if let Some(file) = &self.endpoint.ca_file {
            let read = std::fs::read(file).map_err(|why| why.to_string());
            let certificates = read.and_then(|pem| {
                let parsed = reqwest::Certificate::from_pem_bundle(&pem).map_err(|why| why.to_string())?;
                if parsed.is_empty() { Err("it holds no certificate in PEM form".to_owned()) } else { Ok(parsed) }
            });
            let registry = &self.place.registry;
            let certificates = certificates
                .map_err(|why| format!("the CA file {} for {registry} cannot be used: {why}", file.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        builder.build().map_err(|why| {
            format!("no CA certificates can be loaded for HTTPS (install ca-certificates): {}", causes(&why).join(": "))
        })
    }

    /// Meets the challenge of a 401 and keeps the answer for the requests that follow.
    async fn authorize(&self, response: &Response) -> Result<Authorized, Failed> {
        let Some(challenge) = Challenge::of(response.headers()) else { return Ok(Authorized::default()) };
        let (credential, problem) = match self.credential().await {
            Ok(credential) => (credential, None),
            // A broken helper keeps nobody from a public image; if the image is not public, the error says so.
            Err(why) => (None, Some(why)),
        };
        let authorized = Authorized { with_credentials: credential.is_some(), problem };
        let authorization = if challenge.scheme == "basic" {
            match &credential {
                Some(Credential::Password { username, password }) => auth::basic(username, password),
                _ => return Ok(authorized),
            }
        } else {
            let own = || format!("repository:{}:{}", self.repository, self.actions);
            let scope = challenge.get("scope").map_or_else(own, str::to_owned);
            let realm = challenge.get("realm").and_then(|realm| Url::parse(realm).ok());
            let Some(realm) = realm.filter(|realm| self.endpoint.allows(realm)) else {
                let why = "it sends to a token server that is not an https URL".to_owned();
                return Err(Failed::Final(self.unreachable(why, 1)));
            };
            let request = auth::token_request(realm, challenge.get("service"), &scope, credential.as_ref());
            format!("Bearer {}", self.token(request, &authorized).await?)
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        Ok(authorized)
    }

    async fn token(&self, wanted: auth::TokenRequest, authorized: &Authorized) -> Result<String, Failed> {
        let server = host(&wanted.url);
        let client = self.client(&wanted.url)?;
        let mut request = match wanted.form {
            Some(form) => client.post(wanted.url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form),
            None => client.get(wanted.url),
        };
        if let Some(authorization) = wanted.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = request.send().await.map_err(|why| self.failed(why))?;
        let status = response.status();
        if !status.is_success() {
            let who = format!("the token server {server}");
            return Err(match status {
                StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    Failed::Final(self.unauthorized(who, status, authorized))
                }
                _ => self.not_now(&response, format!("{who} answered {}", status.as_u16())),
            });
        }
        let body = self.body(&mut response, TOKEN_MAX).await?;
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| answer.get(key)?.as_str());
        match token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())) {
            Some(token) => Ok(token.to_owned()),
            None => Err(Failed::Final(self.unreachable(format!("the token server {server} gave no token"), 1))),
        }
    }

    /// The credential for the host that is asked: from options, else from the credentials file.
    async fn credential(&self) -> Result<Option<Credential>, String> {
        let (Some(file), None) = (self.docker_config.clone(), &self.from_options) else {
            return Ok(self.from_options.clone());
        };
        let (host, repository) = (self.endpoint.credentials_for.clone(), self.repository.clone());
        let read = tokio::task::spawn_blocking(move || credentials::from_file(&file, &host, &repository));
        read.await.unwrap_or_else(|why| Err(why.to_string()))
    }

    /// The error of an answer that is neither 200 nor a challenge.
    async fn refused(&self, mut response: Response, path: &str, authorized: Authorized) -> Failed {
        let status = response.status();
        let who = format!("the registry {}", host(response.url()));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failed::Final(self.unauthorized(who, status, &authorized))
            }
            StatusCode::NOT_FOUND => {
                let said = self.body(&mut response, 64 << 10).await.ok().and_then(|body| said(&body));
                let what = match path.split_once('/') {
                    Some(("blobs", digest)) => format!("its manifest is there, its blob {digest} is not"),
                    _ => "there is no such repository or tag".to_owned(),
                };
                let said = said.map_or(String::new(), |said| format!(" ({said})"));
                let what = format!("{who} answered 404{said}: {what}");
                Failed::Final(Error::NotFound { place: Box::new(self.place.clone()), what })
            }
            status => self.not_now(&response, format!("{who} answered {}", status.as_u16())),
        }
    }

    /// An answer that is an error of the server: transient where the status says so.
    fn not_now(&self, response: &Response, why: String) -> Failed {
        let status = response.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            return Failed::Transient { why, retry_after };
        }
        Failed::Final(self.unreachable(why, 1))
    }

    fn failed(&self, error: reqwest::Error) -> Failed {
        let (why, transient) = describe(&error);
        if transient { Failed::Transient { why, retry_after: None } } else { Failed::Final(self.unreachable(why, 1)) }
    }

    fn unauthorized(&self, who: String, status: StatusCode, authorized: &Authorized) -> Error {
        let problem = authorized.problem.as_ref().map_or(String::new(), |problem| format!(" ({problem}), "));
        Error::Unauthorized {
            place: Box::new(self.place.clone()),
            who: format!("{problem}{who}"),
            status: status.as_u16(),
            with_credentials: authorized.with_credentials,
        }
    }

    fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { place: Box::new(self.place.clone()), what }
    }

    fn unreachable(&self, why: String, attempts: u32) -> Error {
        let url = format!("{}/v2/", self.endpoint.base);
        Error::Unreachable { place: Box::new(self.place.clone()), url, why, attempts }
    }
}

/// With what a challenge was met.
#[derive(Default)]
struct Authorized {
    with_credentials: bool,
    /// Why the credentials file or its helper gave none.
    problem: Option<String>,
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("alien-core/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // What a process' environment says is for its owner to pass on, not for a library to pick up.
        .no_proxy()
}

fn unusable(why: &str) -> Error {
    Error::Options {
        what: format!("no registry can be asked: {why}"),
        hint: "check the CA file of the registry's options and the system's certificates".to_owned(),
    }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
