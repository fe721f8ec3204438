//! `local`: the state directory, and how registries are reached from this machine.

use super::{credentials, default, path, text};
use crate::image::{self, DOWNLOADS, PullPolicy, RegistryOptions, StoreOptions};
use crate::local::{Options, Runtime};
use crate::model::check::{At, Issues, field};
use crate::model::{Quantity, Raw};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most layers that may be downloaded at once.
const MOST_DOWNLOADS: u32 = 64;

pub fn read(raw: Option<&Raw>, defaults: &Raw, issues: &mut Issues) -> Options {
    let root = At::ROOT;
    let at = root.key("local");
    let known =
        ["stateDir", "registries", "dockerConfig", "dockerHost", "pull", "downloads", "storeMaxBytes", "runtime"];
    let fields = raw.and_then(|raw| issues.object_of(&at, raw, &known)).unwrap_or(&[]);
    let state_dir = path(fields, "stateDir", &at, defaults, issues).unwrap_or_default();
    let docker_config = path(fields, "dockerConfig", &at, defaults, issues);
    let certificates = default(defaults, "dockerCertificates").map(Path::new);
    let docker_host = text(fields, "dockerHost", &at, issues).or_else(|| default(defaults, "dockerHost"));
    let docker_host = docker_host.map(|host| match certificates {
        Some(folder) => image::engine::with_certificates(host, folder),
        None => host.to_owned(),
    });
    if !state_dir.is_absolute() {
        issues.add(&at.key("stateDir"), "invalid_value", "expected an absolute path");
    }
    let pull = match text(fields, "pull", &at, issues) {
        None | Some("auto") => PullPolicy::Auto,
        Some("always") => PullPolicy::Always,
        Some("missing") => PullPolicy::IfNotPresent,
        Some(other) => {
            issues.not_one_of(&at.key("pull"), &["auto", "always", "missing"], other);
            PullPolicy::Auto
        }
    };
    let downloads =
        field(fields, "downloads").and_then(|raw| issues.integer(&at.key("downloads"), raw, 1, MOST_DOWNLOADS));
    let store = StoreOptions {
        downloads: downloads.map_or(DOWNLOADS, |downloads| downloads as usize),
        max_bytes: field(fields, "storeMaxBytes").and_then(|raw| bytes(raw, &at.key("storeMaxBytes"), issues)),
        ..StoreOptions::default()
    };
    let mut registries = BTreeMap::new();
    if let Some(mirrors) = default(defaults, "mirrors") {
        read_mirrors(mirrors, &mut registries, issues);
    }
    if let Some(raw) = field(fields, "registries") {
        read_registries(raw, &at.key("registries"), &mut registries, issues);
    }
    let runtime = match text(fields, "runtime", &at, issues).or_else(|| default(defaults, "runtime")) {
        None | Some("auto") => Runtime::Auto,
        Some("process") => Runtime::Process,
        Some("engine") => Runtime::Engine,
        Some(other) => {
            issues.not_one_of(&at.key("runtime"), &["auto", "process", "engine"], other);
            Runtime::Auto
        }
    };
    let helper = default(defaults, "helper").map(PathBuf::from).unwrap_or_default();
    Options {
        state_dir,
        // They are shipped side by side.
        program: helper.with_file_name("alien-manager"),
        helper,
        manager: None,
        store,
        runtime,
        engines: engines(docker_host.as_deref(), default(defaults, "runtimeDir")),
        images: image::Options { registries, docker_config, pull, docker_host },
    }
}

/// Where engines are looked for: where the user says, else where Docker listens, and Podman, the account's own first.
fn engines(given: Option<&str>, runtime_dir: Option<&str>) -> Vec<String> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let own = runtime_dir.map(|dir| format!("unix://{dir}/podman/podman.sock"));
    let places = [Some(image::engine::DEFAULT_HOST.to_owned()), own, Some("unix:///run/podman/podman.sock".to_owned())];
    places.into_iter().flatten().collect()
}

/// `HOST=URL,…`, several of one host in the order that they are asked in, from `ALIEN_REGISTRY_MIRRORS`.
fn read_mirrors(text: &str, registries: &mut BTreeMap<String, RegistryOptions>, issues: &mut Issues) {
    let root = At::ROOT;
    let at = root.key("ALIEN_REGISTRY_MIRRORS");
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.split_once('=') {
            Some((host, url)) if !host.is_empty() && is_url(url) => {
                registries.entry(host.to_owned()).or_default().mirrors.push(url.to_owned());
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
        registry.ca_file = text(fields, "caFile", &at, issues).map(PathBuf::from).or(registry.ca_file.take());
        (registry.username, registry.password) = credentials(fields, &at, issues);
        if let Some(raw) = field(fields, "mirror") {
            registry.mirrors = mirrors(raw, &at.key("mirror"), issues);
        }
        if let Some(insecure) = field(fields, "insecure").and_then(|raw| issues.boolean(&at.key("insecure"), raw)) {
            registry.insecure = insecure;
        }
    }
}

/// A URL, or a list of them.
fn mirrors(raw: &Raw, at: &At, issues: &mut Issues) -> Vec<String> {
    let check = |at: &At, raw: &Raw, issues: &mut Issues| {
        let url = issues.text(at, raw)?;
        if !is_url(url) {
            issues.add(at, "invalid_value", "expected a URL that begins with http:// or https://");
        }
        Some(url.to_owned())
    };
    match raw {
        Raw::Array(items) => {
            items.iter().enumerate().filter_map(|(index, raw)| check(&at.index(index), raw, issues)).collect()
        }
        raw => check(at, raw, issues).into_iter().collect(),
    }
}

/// A whole number of bytes, or a Kubernetes quantity such as `"20Gi"`.
fn bytes(raw: &Raw, at: &At, issues: &mut Issues) -> Option<u64> {
    let text = match raw {
        Raw::Number(number) => number.to_string(),
        raw => issues.text(at, raw)?.to_owned(),
    };
    match Quantity::parse(&text).map(|quantity| quantity.bytes()) {
        Ok(bytes) if bytes > 0 => return Some(bytes),
        Ok(_) => drop(issues.add(at, "invalid_value", "expected more than no bytes at all")),
        Err(why) => drop(issues.add(at, "invalid_value", why)),
    }
    None
}
