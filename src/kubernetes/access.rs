//! From kubeconfig, or from inside a pod, to a client.

use super::failure;
use super::options::Access;
use super::proxy;
use super::transport;
use crate::error::Report;
use kube::Client;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::time::Duration;

/// Where a pod's own credentials are (Kubernetes documentation, "Accessing the Kubernetes API from a Pod").
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A server that takes longer to accept a connection is as good as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Exec plugins may open a browser, but not wait for ever.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A way into a cluster.
pub struct Entrance {
    pub client: Client,
    /// What the client was made from, for one whose connections can be upgraded.
    config: Config,
    /// The namespace of the context or pod.
    pub namespace: String,
    /// The API server's address.
    pub server: String,
    /// What is better said before anything is done.
    pub warnings: Vec<String>,
}

impl Entrance {
    /// A client whose connections can be upgraded, as exec wants it.
    pub async fn upgrading(&self) -> Result<Client, Report> {
        log_in(self.config.clone(), Client::try_from).await
    }
}

/// Finds the cluster and logs in.
///
/// # Errors
/// `CLUSTER_NOT_CONFIGURED` where nothing says which cluster; `KUBECONFIG_INVALID`, `CONTEXT_NOT_FOUND`,
/// `CREDENTIAL_PLUGIN_FAILED`.
pub async fn enter(access: &Access) -> Result<Entrance, Report> {
    let (mut config, own_proxy) = match kubeconfig(access)? {
        Some(kubeconfig) => outside(access, kubeconfig).await?,
        None => (inside(access)?, None),
    };
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    config.proxy_url = match own_proxy {
        Some(proxy) => Some(proxy::parse(&proxy)?),
        None => proxy::choose(access, &host)?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Repeating is decided in `api`, which knows what may be repeated and tells about it.
    config.default_retry = false;
    let mut warnings = Vec::new();
    if config.accept_invalid_certs {
        warnings.push(format!(
            "the certificate of {} is not checked (insecure-skip-tls-verify): anybody between here and there can read \
             and change everything, credentials included",
            config.cluster_url
        ));
    }
    let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let client = log_in(config.clone(), transport::client).await?;
    Ok(Entrance { client, config, namespace, server: server.trim_end_matches('/').to_owned(), warnings })
}

/// Makes a client. Credential plugins are programs, and kube waits for them where it stands.
async fn log_in(config: Config, make: fn(Config) -> Result<Client, kube::Error>) -> Result<Client, Report> {
    let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let login = tokio::task::spawn_blocking(move || make(config));
    match tokio::time::timeout(PLUGIN_TIMEOUT, login).await {
        Ok(Ok(client)) => client.map_err(|error| failure::login(&error, plugin.as_deref())),
        Ok(Err(panic)) => Err(Report::new("INTERNAL_ERROR", format!("logging in failed: {panic}"))),
        Err(_) => {
            let message = format!("the kubeconfig's credential plugin has not answered within {PLUGIN_TIMEOUT:?}");
            Err(Report::new("CREDENTIAL_PLUGIN_FAILED", message)
                .status(401)
                .hint("run the plugin by hand: it may wait for an input or a browser"))
        }
    }
}

/// The kubeconfig files as one, the first one to say something winning; `None` where there is none.
fn kubeconfig(access: &Access) -> Result<Option<Kubeconfig>, Report> {
    let mut merged: Option<Kubeconfig> = None;
    for path in &access.kubeconfig {
        // KUBECONFIG may name files that are yet to be made.
        if !path.exists() {
            continue;
        }
        let one = Kubeconfig::read_from(path).map_err(|error| invalid(path, &error.to_string()))?;
        merged = Some(match merged {
            None => one,
            Some(earlier) => earlier.merge(one).map_err(|error| invalid(path, &error.to_string()))?,
        });
    }
    if merged.is_none() && access.named {
        return Err(not_configured(access));
    }
    Ok(merged)
}

fn invalid(path: &Path, why: &str) -> Report {
    Report::new("KUBECONFIG_INVALID", format!("{} cannot be used: {why}", path.display())).status(400)
}

fn not_configured(access: &Access) -> Report {
    let looked: Vec<String> = access.kubeconfig.iter().map(|path| path.display().to_string()).collect();
    let message = match looked.as_slice() {
        [] => "no kubeconfig says which cluster to use".to_owned(),
        paths => format!("no kubeconfig says which cluster to use: there is no {}", paths.join(", no ")),
    };
    Report::new("CLUSTER_NOT_CONFIGURED", message)
        .status(400)
        .hint("set KUBECONFIG, give --kubeconfig PATH (kubernetes.kubeconfig), or run inside a pod of the cluster")
}

/// A kubeconfig's context.
async fn outside(access: &Access, kubeconfig: Kubeconfig) -> Result<(Config, Option<String>), Report> {
    let files = || {
        let there = access.kubeconfig.iter().filter(|path| path.exists());
        there.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let named = access.context.clone().or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
    let Some(context) = named else {
        return Err(Report::new("CONTEXT_NOT_FOUND", format!("{} has no current context", files()))
            .status(400)
            .hint("name one with --context (kubernetes.context), or set one: kubectl config use-context NAME"));
    };
    let Some(entry) = kubeconfig.contexts.iter().find(|entry| entry.name == context) else {
        let names: Vec<&str> = kubeconfig.contexts.iter().map(|entry| entry.name.as_str()).collect();
        let there =
            if names.is_empty() { "there is none".to_owned() } else { format!("there is: {}", names.join(", ")) };
        return Err(Report::new("CONTEXT_NOT_FOUND", format!("{} has no context {context:?}", files()))
            .with("context", context.as_str())
            .status(400)
            .hint(there));
    };
    let cluster = entry.context.as_ref().map(|context| context.cluster.clone()).unwrap_or_default();
    let own_proxy = kubeconfig.clusters.iter().find(|named| named.name == cluster);
    let own_proxy = own_proxy.and_then(|named| named.cluster.as_ref()?.proxy_url.clone());
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
        let message = format!("the context {context:?} of {} cannot be used: {error}", files());
        Report::new("KUBECONFIG_INVALID", message).status(400)
    })?;
    Ok((config, own_proxy.filter(|proxy| !proxy.is_empty())))
}

/// The pod's own service account.
fn inside(access: &Access) -> Result<Config, Report> {
    let Some((host, port)) = access.service.as_ref() else { return Err(not_configured(access)) };
    let file = |name: &str| Path::new(SERVICE_ACCOUNT).join(name);
    let read = |name: &str| {
        std::fs::read_to_string(file(name)).map_err(|error| {
            let message = format!("{} cannot be read: {error}", file(name).display());
            Report::new("CLUSTER_NOT_CONFIGURED", message).status(400).hint(
                "the pod has no service account token: leave automountServiceAccountToken on, or give a kubeconfig",
            )
        })
    };
    // An IPv6 address stands in brackets in a URL.
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = format!("https://{host}:{port}");
    let uri = url.parse::<http::Uri>().map_err(|error| {
        let message = format!("KUBERNETES_SERVICE_HOST and _PORT make no address: {url}: {error}");
        Report::new("CLUSTER_NOT_CONFIGURED", message).status(400)
    })?;
    read("token")?;
    let mut config = Config::new(uri);
    config.default_namespace = read("namespace")?.trim().to_owned();
    config.root_cert_file = Some(file("ca.crt"));
    // Only the file counts. Without a list kube asks for the system's certificates, and many images have none.
    config.root_cert = Some(Vec::new());
    config.auth_info = AuthInfo { token_file: Some(file("token").display().to_string()), ..AuthInfo::default() };
    Ok(config)
}
