//! The Secret of a version: what the daemon has in secret variables, under their names.
//!
//! It is never changed: other values are another version with a Secret of its own. Values that nobody gives again are taken
//! over from the version that runs.

use super::api::Cluster;
use super::drift::SECRETS;
use super::environment::{self, Variable};
use super::kind::{Kind, Object};
use super::labels::Owner;
use super::manifest;
use super::snapshot::Snapshot;
use crate::engine::plan::{Field, Fields};
use crate::error::Report;
use crate::model::{Bindings, Daemon, Stack, names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The Secrets that bindings refer to: key by key, as text.
pub type Referenced = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the Secrets that bindings refer to.
///
/// # Errors
/// That of the first one that is not there, or lacks a key.
pub async fn read_referenced(cluster: &Cluster, stack: &Stack, bindings: &Bindings) -> Result<Referenced, Report> {
    let mut wanted: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for daemon in stack.daemons() {
        for (id, binding) in environment::bound(stack, daemon, bindings) {
            for (name, key) in binding.into_iter().flat_map(environment::references) {
                wanted.entry(name).or_insert((id, BTreeSet::new())).1.insert(key);
            }
        }
    }
    let mut read = BTreeMap::new();
    for (name, (id, keys)) in wanted {
        let missing = |key| environment::reference_missing(id, name, key, &cluster.namespace);
        let data = text_data(&cluster.get(Kind::Secret, name).await?.ok_or_else(|| missing(None))?);
        if let Some(key) = keys.into_iter().find(|key| !data.contains_key(*key)) {
            return Err(missing(Some(key)));
        }
        read.insert(name.to_owned(), data);
    }
    Ok(read)
}

/// What a Secret holds, where that is text.
pub fn text_data(secret: &Object) -> BTreeMap<String, String> {
    let data = secret.body["data"].as_object().into_iter().flatten();
    let decoded = data.filter_map(|(key, value)| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        Some((key.clone(), String::from_utf8(bytes).ok()?))
    });
    decoded.collect()
}

/// What the Secret of the present version holds, by variable.
pub fn former(snapshot: &Snapshot, live: Option<&Object>) -> BTreeMap<String, String> {
    let Some(name) = live.and_then(secret_of) else { return BTreeMap::new() };
    snapshot.get(Kind::Secret, &name).map(text_data).unwrap_or_default()
}

/// The secrets given now over those that the daemon has.
pub fn kept(
    daemon: &Daemon,
    given: Option<&BTreeMap<String, String>>,
    live: Option<&Object>,
    former: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Report> {
    let bindings: BTreeSet<String> = daemon.links.iter().map(|link| names::binding_variable(&link.id)).collect();
    let mut secrets = BTreeMap::new();
    let mut lost = Vec::new();
    for name in live.map(secret_variables).unwrap_or_default() {
        if bindings.contains(&name) || given.is_some_and(|given| given.contains_key(&name)) {
            continue;
        }
        match former.get(&name) {
            Some(value) => drop(secrets.insert(name, value.clone())),
            None => lost.push(name),
        }
    }
    if !lost.is_empty() {
        let secret = live.and_then(secret_of).unwrap_or_default();
        let options: Vec<String> = lost.iter().map(|name| format!("--secret {}.{name}", daemon.id)).collect();
        let message = format!(
            "the values of {} of daemon {:?} are lost: the Secret {secret:?} does not hold them any more",
            lost.join(", "),
            daemon.id
        );
        return Err(Report::new("SECRET_LOST", message)
            .status(400)
            .hint(format!("give them again: {}", options.join(" "))));
    }
    secrets.extend(given.cloned().unwrap_or_default());
    Ok(secrets)
}

/// Everything that the version's Secret is to hold.
pub fn data(
    stack: &Stack,
    daemon: &Daemon,
    bindings: &Bindings,
    referenced: &Referenced,
    environment: &environment::Environment,
    secrets: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut data = secrets.clone();
    for (id, binding) in environment::bound(stack, daemon, bindings) {
        let variable = names::binding_variable(id);
        if let (Some(binding), Some(Variable::Secret)) = (binding, environment.get(&variable)) {
            let secret = |name: &str, key: &str| referenced.get(name)?.get(key).cloned();
            data.insert(variable, environment::compose(binding, secret));
        }
    }
    data
}

/// The name of the Secret that holds `data`, and whether it is there already. None for no data.
pub fn name(
    snapshot: &Snapshot,
    owner: Owner<'_>,
    data: &BTreeMap<String, String>,
) -> Result<(Option<String>, bool), Report> {
    if data.is_empty() {
        return Ok((None, false));
    }
    let prefix = manifest::secret_prefix(&owner.name());
    let versions =
        snapshot.of_daemon(owner.id).filter(|object| object.kind == Kind::Secret && object.name.starts_with(&prefix));
    let mut same: Vec<&Object> =
        versions.filter(|object| text_data(object) == *data && object.body["immutable"] == true).collect();
    // Of two alike the present one is kept.
    let present = snapshot.get(Kind::Deployment, &owner.name()).and_then(secret_of);
    same.sort_by_key(|object| Some(&object.name) != present.as_ref());
    if let Some(object) = same.first() {
        return Ok((Some(object.name.clone()), true));
    }
    // A name that says nothing about the contents, not even whether they are the same as another's.
    let random = crate::sys::process::random_name()
        .map_err(|error| Report::new("INTERNAL_ERROR", format!("no random numbers: {error}")))?;
    Ok((Some(format!("{prefix}{}", &random[..8])), false))
}

/// Values of secrets in the place of the names of the Secrets that hold them.
pub fn shown(fields: &mut Fields, data: &BTreeMap<String, String>, environment: &environment::Environment) {
    fields.retain(|path, _| !path.starts_with(SECRETS));
    let secret =
        data.iter().filter(|(name, _)| environment.get(*name).is_none_or(|variable| *variable == Variable::Secret));
    fields.extend(secret.map(|(name, value)| (format!("{SECRETS}{name}"), Field::secret(value.as_str()))));
}

/// The environment of a live Deployment's container.
fn live_env(live: &Object) -> impl Iterator<Item = &Value> {
    let containers = live.body["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
    let ours = containers.filter(|container| container["name"] == manifest::CONTAINER);
    ours.filter_map(|container| container["env"].as_array()).flatten()
}

/// The variables of a live Deployment that come from its version's Secret.
fn secret_variables(live: &Object) -> Vec<String> {
    let ours = secret_of(live);
    let names = live_env(live).filter(|entry| {
        entry["valueFrom"]["secretKeyRef"]["name"].as_str().map(str::to_owned) == ours && ours.is_some()
    });
    names.filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect()
}

/// The Secret of the version that a live Deployment is of.
pub fn secret_of(live: &Object) -> Option<String> {
    let prefix = manifest::secret_prefix(&live.name);
    let names = live_env(live).filter_map(|entry| entry["valueFrom"]["secretKeyRef"]["name"].as_str());
    names.map(str::to_owned).find(|name| name.starts_with(&prefix))
}
