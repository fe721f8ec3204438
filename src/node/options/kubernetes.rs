//! `kubernetes`: which cluster, as whom, and how.

use super::{credentials, default, flag, text};
use crate::kubernetes::{Access, OnFailure, Options, Registry};
use crate::model::check::{At, Issues, field, quote};
use crate::model::{Raw, dns, image_reference};
use std::collections::BTreeMap;
use std::path::PathBuf;

const KNOWN: [&str; 8] = [
    "kubeconfig",
    "context",
    "namespace",
    "createNamespace",
    "forceConflicts",
    "onFailure",
    "registries",
    "dockerConfig",
];

pub fn read(raw: Option<&Raw>, defaults: &Raw, issues: &mut Issues) -> Options {
    let root = At::ROOT;
    let at = root.key("kubernetes");
    let fields = raw.and_then(|raw| issues.object_of(&at, raw, &KNOWN)).unwrap_or(&[]);
    let namespace = text(fields, "namespace", &at, issues).map(str::to_owned);
    if let Some(namespace) = namespace.as_deref().filter(|namespace| !dns::is_label(namespace)) {
        let message = format!("expected {}, received {}", dns::LABEL, quote(namespace));
        issues.add(&at.key("namespace"), "invalid_value", message);
    }
    let on_failure = match text(fields, "onFailure", &at, issues) {
        None | Some("rollback") => OnFailure::Rollback,
        Some("keep") => OnFailure::Keep,
        Some(other) => {
            issues.not_one_of(&at.key("onFailure"), &["rollback", "keep"], other);
            OnFailure::Rollback
        }
    };
    let registries = field(fields, "registries").map(|raw| registries(raw, &at.key("registries"), issues));
    Options {
        access: access(fields, &at, defaults, issues),
        namespace,
        create_namespace: flag(fields, "createNamespace", &at, issues),
        force_conflicts: flag(fields, "forceConflicts", &at, issues),
        on_failure,
        registries: registries.unwrap_or_default(),
        // Not the user's own by default: what is in it would end up in the cluster.
        docker_config: text(fields, "dockerConfig", &at, issues).map(PathBuf::from),
        manager: None,
    }
}

fn access(fields: &[(String, Raw)], at: &At, defaults: &Raw, issues: &mut Issues) -> Access {
    let named = text(fields, "kubeconfig", at, issues).or_else(|| default(defaults, "kubeconfig"));
    let files = named.map(|files| files.split(':').filter(|file| !file.is_empty()).map(PathBuf::from).collect());
    let home = || default(defaults, "homeKubeconfig").map(PathBuf::from).into_iter().collect();
    let service = default(defaults, "kubernetesServiceHost").zip(default(defaults, "kubernetesServicePort"));
    Access {
        kubeconfig: files.unwrap_or_else(home),
        named: named.is_some(),
        context: text(fields, "context", at, issues).map(str::to_owned),
        service: service.map(|(host, port)| (host.to_owned(), port.to_owned())),
        https_proxy: default(defaults, "httpsProxy").map(str::to_owned),
        no_proxy: default(defaults, "noProxy").map(str::to_owned),
    }
}

/// `{HOST: {host?, username?, password?}}`, by the host that images name.
fn registries(raw: &Raw, at: &At, issues: &mut Issues) -> BTreeMap<String, Registry> {
    let mut registries = BTreeMap::new();
    for (name, raw) in issues.object(at, raw).unwrap_or(&[]) {
        let at = at.key(name);
        check_host(name, &at, issues);
        let Some(fields) = issues.object_of(&at, raw, &["host", "username", "password"]) else { continue };
        let host = text(fields, "host", &at, issues).map(str::to_owned);
        if let Some(host) = &host {
            check_host(host, &at.key("host"), issues);
        }
        let (username, password) = credentials(fields, &at, issues);
        registries.insert(name.clone(), Registry { host, username, password });
    }
    registries
}

fn check_host(host: &str, at: &At, issues: &mut Issues) {
    if let Err(why) = image_reference::check_host(host) {
        let issue = issues.add(at, "invalid_value", format!("expected HOST or HOST:PORT: {why}"));
        issue.hint = Some("as in an image's name, without https:// and without a path".to_owned());
    }
}
