//! The options of the engine's calls: user's words in, checked values out.
//!
//! JavaScript sends the user's options as they are, and beside them what it read from the environment; where both say
//! something the user's option wins. Every rule and default is here.

use crate::engine::platform::Secrets;
use crate::error::Report;
use crate::image::{self, PullPolicy, RegistryOptions};
use crate::local;
use crate::model::check::{At, Issues, OPTIONS, field};
use crate::model::{Platform, Raw, environment};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A deploy that takes longer than this has been forgotten (Kubernetes' `progressDeadlineSeconds`).
const DEFAULT_TIMEOUT_MS: u32 = 600_000;
/// A deployment is named like a stack.
const NAME_MAX: usize = 128;
/// The longest time-out: a day.
const MOST_MS: u32 = 86_400_000;

/// Checked options.
pub struct Options {
    pub platform: Platform,
    /// `None`: the stack's id.
    pub name: Option<String>,
    pub timeout: Duration,
    pub secrets: Secrets,
    pub local: local::Options,
}

/// Reads `options` over `defaults`.
///
/// # Errors
/// `VALIDATION_ERROR` with every problem.
pub fn read(options: &Raw, defaults: &Raw) -> Result<Options, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let empty = Raw::Object(Vec::new());
    let options = if matches!(options, Raw::Undefined) { &empty } else { options };
    let fields = issues.object_of(&at, options, &["platform", "name", "timeoutMs", "secrets", "local"]).unwrap_or(&[]);
    let platform = given(fields, "platform")
        .map_or(Some(Platform::Local), |raw| Platform::check(raw, &at.key("platform"), &mut issues))
        .unwrap_or(Platform::Local);
    let name = given(fields, "name").and_then(|raw| issues.id(&at.key("name"), Some(raw), NAME_MAX)).map(str::to_owned);
    let timeout = given(fields, "timeoutMs")
        .and_then(|raw| issues.integer(&at.key("timeoutMs"), raw, 1, MOST_MS))
        .unwrap_or(DEFAULT_TIMEOUT_MS);
    let secrets = given(fields, "secrets").map(|raw| read_secrets(raw, &mut issues)).unwrap_or_default();
    let local = read_local(given(fields, "local"), defaults, &mut issues);
    issues.finish(
        Some(Options { platform, name, timeout: Duration::from_millis(u64::from(timeout)), secrets, local }),
        OPTIONS,
        None,
    )
}

fn given<'r>(fields: &'r [(String, Raw)], key: &str) -> Option<&'r Raw> {
    field(fields, key).filter(|raw| !matches!(raw, Raw::Undefined))
}

/// `{daemonId: {NAME: value}}`. Values appear in no message.
fn read_secrets(raw: &Raw, issues: &mut Issues) -> Secrets {
    let root = At::ROOT;
    let at = root.key("secrets");
    let mut secrets = Secrets::new();
    for (daemon, variables) in issues.object(&at, raw).unwrap_or(&[]) {
        secrets.insert(daemon.clone(), environment::check(variables, &at.key(daemon), issues).unwrap_or_default());
    }
    secrets
}

fn read_local(raw: Option<&Raw>, defaults: &Raw, issues: &mut Issues) -> local::Options {
    let root = At::ROOT;
    let at = root.key("local");
    let known = ["stateDir", "registries", "dockerConfig", "pull"];
    let fields = raw.and_then(|raw| issues.object_of(&at, raw, &known)).unwrap_or(&[]);
    let default = |key: &str| defaults.get(key).and_then(Raw::as_str).map(PathBuf::from);
    let mut path = |key: &str| {
        let path = given(fields, key).and_then(|raw| issues.text(&at.key(key), raw)).map(PathBuf::from);
        path.or_else(|| default(key))
    };
    let state_dir = path("stateDir").unwrap_or_default();
    let docker_config = path("dockerConfig");
    if !state_dir.is_absolute() {
        issues.add(&at.key("stateDir"), "invalid_value", "expected an absolute path");
    }
    let pull = match given(fields, "pull").and_then(|raw| issues.text(&at.key("pull"), raw)) {
        None | Some("auto") => PullPolicy::Auto,
        Some("always") => PullPolicy::Always,
        Some("missing") => PullPolicy::IfNotPresent,
        Some(other) => {
            issues.not_one_of(&at.key("pull"), &["auto", "always", "missing"], other);
            PullPolicy::Auto
        }
    };
    let mut registries = BTreeMap::new();
    if let Some(mirrors) = defaults.get("mirrors") {
        read_mirrors(mirrors, &mut registries, issues);
    }
    if let Some(raw) = given(fields, "registries") {
        read_registries(raw, &at.key("registries"), &mut registries, issues);
    }
    local::Options {
        state_dir,
        helper: default("helper").unwrap_or_default(),
        images: image::Options { registries, docker_config, pull },
    }
}

/// `HOST=URL,…`, from `ALIEN_REGISTRY_MIRRORS`.
fn read_mirrors(raw: &Raw, registries: &mut BTreeMap<String, RegistryOptions>, issues: &mut Issues) {
    let root = At::ROOT;
    let at = root.key("ALIEN_REGISTRY_MIRRORS");
    for entry in raw.as_str().unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.split_once('=') {
            Some((host, url)) if !host.is_empty() && is_url(url) => {
                registries.entry(host.to_owned()).or_default().mirror = Some(url.to_owned());
            }
            _ => {
                let message = format!("expected HOST=URL, such as ghcr.io=http://127.0.0.1:5000, found {entry:?}");
                issues.add(&at, "invalid_value", message);
            }
        }
    }
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

fn read_registries(raw: &Raw, at: &At, registries: &mut BTreeMap<String, RegistryOptions>, issues: &mut Issues) {
    let known = ["mirror", "insecure", "caFile", "username", "password"];
    for (host, raw) in issues.object(at, raw).unwrap_or(&[]) {
        let at = at.key(host);
        let Some(fields) = issues.object_of(&at, raw, &known) else { continue };
        let registry = registries.entry(host.clone()).or_default();
        let mut text = |key: &str| given(fields, key).and_then(|raw| issues.text(&at.key(key), raw)).map(str::to_owned);
        let mirror = text("mirror");
        registry.ca_file = text("caFile").map(PathBuf::from).or(registry.ca_file.take());
        registry.username = text("username");
        registry.password = text("password");
        if let Some(mirror) = mirror {
            if !is_url(&mirror) {
                issues.add(&at.key("mirror"), "invalid_value", "expected a URL that begins with http:// or https://");
            }
            registry.mirror = Some(mirror);
        }
        if let Some(insecure) = given(fields, "insecure").and_then(|raw| issues.boolean(&at.key("insecure"), raw)) {
            registry.insecure = insecure;
        }
        if registry.username.is_some() != registry.password.is_some() {
            issues.add(&at, "custom", "username and password go together");
        }
    }
}
