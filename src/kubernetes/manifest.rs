//! A daemon's objects. Pure: the same daemon gives the same bytes.

use super::commands::Receiver;
use super::environment::{Environment, as_env, escape};
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::options::Registry;
use crate::engine::status::Limits;
use crate::error::Report;
use crate::model::names::fingerprint;
use crate::model::{Code, Daemon, Grants, ImageReference, Quantity, RegistryReference};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of the one container of a pod.
pub const CONTAINER: &str = "daemon";
/// What a daemon is given when it does not say, so that it is not the first to be evicted.
const DEFAULT_CPU: &str = "100m";
const DEFAULT_MEMORY: &str = "128Mi";
/// Kubernetes' own default, said so that a change of it by others is seen.
pub const GRACE_SECONDS: u32 = 30;
/// A rollout without progress for so long has failed.
const PROGRESS_DEADLINE_SECONDS: u32 = 600;
/// A program that ends at once does not count as available. Kubernetes cuts the time at which a pod became ready to whole
/// seconds: 2 are at least 1, which is `settleMs` on Local.
const MIN_READY_SECONDS: u32 = 2;
/// Versions that the cluster itself keeps for `kubectl rollout undo`.
const REVISIONS: u32 = 2;

/// What a daemon's objects are made from.
pub struct Parts<'a> {
    pub owner: Owner<'a>,
    pub daemon: &'a Daemon,
    pub lifecycle: &'a str,
    pub environment: &'a Environment,
    /// The Secret of this version; there is none where nothing is secret.
    pub secret: Option<&'a str>,
    /// Where it takes commands from, if it does.
    pub commands: Option<&'a Receiver>,
    /// What it may do with which Secrets of vaults.
    pub vaults: &'a [(Grants, Vec<String>)],
    /// By host.
    pub registries: &'a BTreeMap<String, Registry>,
    /// The contents of the image pull Secret, where credentials were given.
    pub pull: Option<String>,
}

/// The objects, in the order in which they are made; the version's Secret is not among them.
pub fn objects(parts: &Parts<'_>) -> Result<Vec<Object>, Report> {
    let owner = parts.owner;
    let name = owner.name();
    let mut objects =
        vec![owner.object(Kind::ServiceAccount, name.clone(), json!({ "automountServiceAccountToken": false }))];
    if let Some(pull) = &parts.pull {
        let rest = json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": { ".dockerconfigjson": STANDARD.encode(pull) },
        });
        objects.push(owner.object(Kind::Secret, pull_secret(&name), rest));
    }
    let rules = rules(parts.vaults);
    if !rules.is_empty() {
        objects.push(owner.object(Kind::Role, name.clone(), json!({ "rules": rules })));
        let rest = json!({
            "roleRef": { "apiGroup": Kind::Role.group(), "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name }],
        });
        objects.push(owner.object(Kind::RoleBinding, name.clone(), rest));
    }
    // Also where the vault is empty yet: its first key is then there without a new pod.
    let token = parts.vaults.iter().any(|(grants, _)| grants.any());
    objects.push(deployment(parts, name, token)?);
    Ok(objects)
}

/// The image pull Secret of the daemon that is called so.
pub fn pull_secret(name: &str) -> String {
    format!("{name}-pull")
}

/// Behind a daemon's name: its versions' Secrets.
pub const SECRETS: &str = "-secrets";

/// The beginning of the names of its versions' Secrets; what follows tells versions apart, and says nothing about
/// their contents.
pub fn secret_prefix(name: &str) -> String {
    format!("{name}{SECRETS}-")
}

/// A version's Secret.
pub fn secret(owner: Owner<'_>, name: &str, data: &BTreeMap<String, String>) -> Object {
    let encoded: BTreeMap<&String, String> = data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
    owner.object(Kind::Secret, name.to_owned(), json!({ "immutable": true, "type": "Opaque", "data": encoded }))
}

/// Rights by name: RBAC knows no prefix, and an empty list of names would mean all of them.
fn rules(vaults: &[(Grants, Vec<String>)]) -> Vec<Value> {
    let named = vaults.iter().filter(|(grants, names)| grants.any() && !names.is_empty());
    named
        .map(|(grants, names)| {
            let mut verbs = Vec::new();
            if grants.read {
                verbs.push("get");
            }
            if grants.write {
                verbs.extend(["update", "patch"]);
            }
            json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": verbs })
        })
        .collect()
}

fn deployment(parts: &Parts<'_>, name: String, token: bool) -> Result<Object, Report> {
    let Parts { owner, daemon, .. } = parts;
    let mut container = json!({
        "name": CONTAINER,
        "image": image(daemon, parts.registries)?,
        "env": as_env(
            parts.environment,
            parts.secret.unwrap_or_default(),
            parts.commands.map_or("", |receiver| &receiver.secret),
        ),
        "resources": resources(daemon),
        // As on Local.
        "securityContext": { "allowPrivilegeEscalation": false, "seccompProfile": { "type": "RuntimeDefault" } },
        // The last lines of a program that ended are then in the pod's own status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(command) = &daemon.command {
        // Without `args` the image's own are left out too.
        container["command"] = json!(command.iter().map(|word| escape(word)).collect::<Vec<_>>());
    }
    if parts.commands.is_some() {
        container["volumeMounts"] = json!([Receiver::mount()]);
    }
    let mut pod = json!({
        "automountServiceAccountToken": token,
        "containers": [container],
        // The environment is the declared one, not one with every Service of the namespace in it.
        "enableServiceLinks": false,
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": daemon.stop_grace_period_seconds.unwrap_or(GRACE_SECONDS),
    });
    if parts.pull.is_some() {
        pod["imagePullSecrets"] = json!([{ "name": pull_secret(&name) }]);
    }
    let mut its_labels = owner.labels();
    if let Some(receiver) = parts.commands {
        pod["volumes"] = json!([receiver.volume()]);
        its_labels[labels::COMMANDS] = json!("true");
    }
    let mut annotations = owner.annotations();
    annotations.insert(labels::VERSION.to_owned(), json!(version(&pod)));
    let template = json!({ "metadata": { "labels": its_labels, "annotations": annotations }, "spec": pod });
    let spec = json!({
        "minReadySeconds": MIN_READY_SECONDS,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
        "replicas": 1,
        "revisionHistoryLimit": REVISIONS,
        "selector": { "matchLabels": owner.selector() },
        "strategy": { "type": "Recreate" },
        "template": template,
    });
    let mut object = owner.object(Kind::Deployment, name, json!({ "spec": spec }));
    for (key, value) in [
        (labels::STACK, owner.stack),
        (labels::LIFECYCLE, parts.lifecycle),
        (labels::PROFILE, daemon.permissions.as_str()),
    ] {
        object.body["metadata"]["annotations"][key] = json!(value);
    }
    Ok(object)
}

/// Tells one pod template from another.
fn version(pod: &Value) -> String {
    fingerprint(pod.to_string(), 16)
}

/// The image of a Deployment that is there.
pub fn live_image(live: &Object) -> Option<String> {
    let containers = live.body["spec"]["template"]["spec"]["containers"].as_array()?;
    let ours = containers.iter().find(|container| container["name"] == CONTAINER)?;
    ours["image"].as_str().map(str::to_owned)
}

/// What a live Deployment's container may use, as far as this project set it.
pub fn live_limits(live: &Object) -> Option<Limits> {
    let containers = live.body["spec"]["template"]["spec"]["containers"].as_array()?;
    let resources = &containers.iter().find(|container| container["name"] == CONTAINER)?["resources"];
    let quantity = |value: &Value| Quantity::parse(value.as_str()?).ok();
    // What nobody asked for is no share of anybody's.
    let cpu = Some(&resources["requests"]["cpu"]).filter(|cpu| **cpu != DEFAULT_CPU);
    let cpu = cpu.and_then(quantity).map(|cpu| cpu.millis());
    Limits::new(cpu, quantity(&resources["limits"]["memory"]).map(|memory| memory.bytes()))
}

/// A daemon's image as the cluster is to pull it.
fn image(daemon: &Daemon, registries: &BTreeMap<String, Registry>) -> Result<String, Report> {
    let (declared, reference) = reference(daemon)?;
    Ok(pulled(declared, reference, registries))
}

/// An image as the cluster is to pull it.
pub fn pulled(declared: &str, reference: RegistryReference, registries: &BTreeMap<String, Registry>) -> String {
    match registries.get(&reference.registry).and_then(|registry| registry.host.as_ref()) {
        None => declared.strip_prefix("docker://").unwrap_or(declared).to_owned(),
        Some(host) => {
            let tag = reference.tag.map_or_else(String::new, |tag| format!(":{tag}"));
            let digest = reference.digest.map_or_else(String::new, |digest| format!("@{digest}"));
            format!("{host}/{}{tag}{digest}", reference.repository)
        }
    }
}

/// A daemon's image in a registry, as it was written and in parts.
pub fn reference(daemon: &Daemon) -> Result<(&str, RegistryReference), Report> {
    let Code::Image { image } = &daemon.code else {
        return Err(Report::new("SOURCE_NOT_SUPPORTED", "daemons run from images, not from source").status(400));
    };
    match ImageReference::parse(image) {
        Ok(ImageReference::Registry(reference)) => Ok((image, reference)),
        _ => {
            let message = format!("no cluster can pull {image:?}: it is not in a registry");
            Err(Report::new("INVALID_IMAGE", message).status(400).with("daemon", daemon.id.as_str()))
        }
    }
}

/// What is requested, and memory's limit. CPU is a share, never a cap.
fn resources(daemon: &Daemon) -> Value {
    let request = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
    let cpu = daemon.cpu.as_ref().map(|cpu| canonical_cpu(&cpu.min));
    let memory = daemon.memory.as_ref().map(|memory| canonical_memory(&memory.min));
    let mut resources =
        json!({ "requests": { "cpu": request(cpu, DEFAULT_CPU), "memory": request(memory, DEFAULT_MEMORY) } });
    if let Some(memory) = &daemon.memory {
        resources["limits"] = json!({ "memory": canonical_memory(&memory.desired) });
    }
    resources
}

/// A quantity as the API server writes it (Kubernetes API conventions, "Quantity"), so that equal ones are equal text.
fn canonical_cpu(quantity: &Quantity) -> String {
    let millis = quantity.millis();
    if millis.is_multiple_of(1000) { decimal(millis / 1000) } else { format!("{millis}m") }
}

fn canonical_memory(quantity: &Quantity) -> String {
    let mut bytes = quantity.bytes();
    if bytes == 0 || !bytes.is_multiple_of(1024) {
        return decimal(bytes);
    }
    let mut suffix = "";
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if !bytes.is_multiple_of(1024) {
            break;
        }
        bytes /= 1024;
        suffix = next;
    }
    format!("{bytes}{suffix}")
}

fn decimal(mut number: u64) -> String {
    let mut suffix = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if number == 0 || !number.is_multiple_of(1000) {
            break;
        }
        number /= 1000;
        suffix = next;
    }
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_the_api_server_writes_them() {
        let quantity = |text: &str| Quantity::parse(text).expect("a quantity");
        for (given, expected) in [("0.1", "100m"), ("1", "1"), ("1.5", "1500m"), ("2000m", "2"), ("1000", "1k")] {
            assert_eq!(canonical_cpu(&quantity(given)), expected, "{given}");
        }
        for (given, expected) in
            [("128Mi", "128Mi"), ("134217728", "128Mi"), ("1.5Gi", "1536Mi"), ("1000k", "1M"), ("2G", "1953125Ki")]
        {
            assert_eq!(canonical_memory(&quantity(given)), expected, "{given}");
        }
    }

    #[test]
    fn no_keys_are_no_rights_and_not_all_of_them() {
        assert_eq!(rules(&[(Grants::ALL, Vec::new())]), Vec::<Value>::new());
        let write = Grants { read: false, write: true };
        let rules = rules(&[(write, vec!["v-a".to_owned()])]);
        assert_eq!(rules[0]["verbs"], json!(["update", "patch"]));
        assert_eq!(rules[0]["resourceNames"], json!(["v-a"]));
    }
}
