//! Managers of commands, as whoever deploys sees them: one that is installed where daemons run, or one elsewhere, and its
//! tokens either way.

use crate::error::Report;
use crate::model::Daemon;
use crate::model::names::fingerprint;
use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// It answers within milliseconds, or something is wrong with it.
const ANSWER: Duration = Duration::from_secs(10);
/// How often one that does not answer is asked; it may be starting anew.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// As long as a program may take to end when the daemon does not say.
const GRACE_SECONDS: u32 = 30;

/// A manager that runs elsewhere: `manager: {url, token, deploymentId?, caFile?}`. Its `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    /// Without a `/` at its end, and without the `/v1` that all calls begin with.
    pub url: String,
    /// An administrator's.
    pub token: String,
    /// What the deployment is called there; its name unless given.
    pub deployment_id: Option<String>,
    /// The certificates that its own is to be signed with, in PEM; the system's unless given.
    pub ca: Option<String>,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("url", &self.url).field("deployment_id", &self.deployment_id).finish()
    }
}

impl External {
    /// What the deployment is called there.
    pub fn deployment<'a>(&'a self, name: &'a str) -> &'a str {
        self.deployment_id.as_deref().unwrap_or(name)
    }

    /// Tells one place for a deployment's commands from another: tokens are good for one of them, and lie beside the
    /// certificates to find it by.
    pub fn identity(&self, name: &str) -> String {
        let authority = self.authority().map_or_else(String::new, |authority| format!(" {authority}"));
        format!("{} {}{authority}", self.url, self.deployment(name))
    }

    /// Tells its certificates from others.
    pub fn authority(&self) -> Option<String> {
        self.ca.as_deref().map(|ca| fingerprint(ca, 16))
    }
}

/// How a manager is installed where daemons run.
#[derive(Debug, Clone)]
pub struct Install {
    /// Its image, as the place pulls it.
    pub image: String,
    /// A Secret with the certificate and key that it is to show; without one it speaks plain HTTP.
    pub tls_secret: Option<String>,
    /// How much room its database has, as a Kubernetes quantity; as much as it has, else 1Gi.
    pub storage: Option<String>,
    /// What the room is made by; the cluster's default unless given.
    pub storage_class: Option<String>,
}

/// How a manager is removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uninstall {
    /// Whether what it keeps goes too: commands, results and tokens.
    pub data: bool,
    /// Also where daemons take their commands from it.
    pub force: bool,
}

/// What a token is for.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// Taking the commands of one daemon.
    Receive(&'a str),
    /// Making commands in the deployment.
    Invoke,
}

/// A manager, and the right to everything in it.
pub struct Administrator {
    /// As people know it.
    name: String,
    url: String,
    token: String,
    client: Client,
}

impl Administrator {
    /// `name` is what errors call the address, where `url` is only the way there; `ca`, in PEM, goes in place of the
    /// system's certificates. Nothing is sent yet.
    pub fn new(name: &str, url: &str, token: &str, ca: Option<&str>) -> Result<Administrator, Report> {
        // Another part of the process may have installed one; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("alien-core/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(ANSWER)
            .timeout(ANSWER)
            // What a process' environment says is for its owner to pass on, not for a library to pick up.
            .no_proxy();
        // In the clear no certificates are needed, which take milliseconds to load.
        let failed = |why: reqwest::Error| {
            let message = format!("no manager can be asked: {}", causes(&why));
            Report::new("MANAGER_UNREACHABLE", message).hint("install the system's certificates (ca-certificates)")
        };
        let builder = match ca {
            _ if !url.starts_with("https:") => builder.tls_backend_preconfigured(no_roots()?),
            Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem.as_bytes()).map_err(failed)?),
            None => builder,
        };
        let client = builder.build().map_err(failed)?;
        Ok(Administrator { name: name.to_owned(), url: url.to_owned(), token: token.to_owned(), client })
    }

    /// The administrator of a manager that runs elsewhere.
    pub fn of(manager: &External) -> Result<Administrator, Report> {
        Administrator::new(&manager.url, &manager.url, &manager.token, manager.ca.as_deref())
    }

    /// Makes a token for a deployment, as it is called there.
    ///
    /// # Errors
    /// `MANAGER_REFUSED`, `MANAGER_UNREACHABLE`.
    pub async fn grant(&self, deployment: &str, grant: Grant<'_>) -> Result<String, Report> {
        let body = match grant {
            Grant::Receive(id) => json!({ "role": "receive", "deploymentId": deployment, "resourceId": id }),
            Grant::Invoke => json!({ "role": "invoke", "deploymentId": deployment }),
        };
        let made = self.ask(Method::POST, "/v1/tokens", Some(&body)).await?;
        match made["token"].as_str() {
            Some(token) if !token.is_empty() => Ok(token.to_owned()),
            _ => Err(self.unreachable("it gave no token: is it a manager of commands?")),
        }
    }

    /// Takes tokens back: all that are for the same.
    pub async fn revoke(&self, deployment: &str, grant: Grant<'_>) -> Result<(), Report> {
        let query = match grant {
            Grant::Receive(id) => format!("/v1/tokens?role=receive&deploymentId={deployment}&resourceId={id}"),
            Grant::Invoke => format!("/v1/tokens?role=invoke&deploymentId={deployment}"),
        };
        self.ask(Method::DELETE, &query, None).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Report> {
        let url = Url::parse(&format!("{}{path}", self.url)).map_err(|why| self.unreachable(&why.to_string()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            // A token that is made twice is one too many, and goes with its daemon.
            match self.once(method.clone(), url.clone(), body).await {
                Err(error) if error.retryable && tries < TRIES => tokio::time::sleep(PAUSE).await,
                other => return other,
            }
        }
    }

    async fn once(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, Report> {
        let mut request = self.client.request(method, url).header(AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|why| self.unreachable(&causes(&why)))?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(|why| self.unreachable(&causes(&why)))?;
        let json: Value = serde_json::from_slice(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(json);
        }
        let said = json["message"].as_str().map_or(String::new(), |said| format!(": {said}"));
        let message = format!("the manager at {} answered {}{said}", self.name, status.as_u16());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Report::new("MANAGER_REFUSED", message).status(status.as_u16()).hint(
                    "whoever deploys needs an administrator's token of that manager: `alien token create --role admin`",
                )
            }
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                self.unreachable(&format!("it answered {}{said}", status.as_u16()))
            }
            _ => Report::new("MANAGER_REFUSED", message).status(status.as_u16()).hint("is it a manager of commands?"),
        })
    }

    fn unreachable(&self, why: &str) -> Report {
        Report::new("MANAGER_UNREACHABLE", format!("the manager at {} does not answer: {why}", self.name))
            .with("url", self.name.as_str())
            .retryable()
            .status(503)
            .hint("does it run, and is it reached from here?")
    }
}

fn no_roots() -> Result<rustls::ClientConfig, Report> {
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|why| Report::new("INTERNAL_ERROR", format!("no TLS: {why}")))?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// An error with everything that caused it, each said once, and without the address, which may hold more than is shown.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.dedup();
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

/// What a receiver reads from its environment, but for its token: `url` is the manager's address as the daemon reaches it,
/// `file` where it finds the token.
pub fn receiver_environment(url: &str, file: &str, daemon: &Daemon) -> Vec<(String, String)> {
    let grace = daemon.stop_grace_period_seconds.unwrap_or(GRACE_SECONDS) * 1000;
    [
        // Handlers may finish, and what they gave still has to be sent before the program is killed.
        ("ALIEN_COMMANDS_DRAIN_TIMEOUT_MS", (grace - grace / 10).to_string()),
        ("ALIEN_COMMANDS_URL", url.to_owned()),
        ("ALIEN_COMMANDS_TOKEN_FILE", file.to_owned()),
        ("ALIEN_COMMANDS_TARGET_RESOURCE_ID", daemon.id.clone()),
        ("ALIEN_COMMANDS_TARGET_RESOURCE_TYPE", "daemon".to_owned()),
        // What older receivers look for.
        ("ALIEN_COMMANDS_POLLING_ENABLED", "true".to_owned()),
        ("ALIEN_COMMANDS_POLLING_URL", url.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
