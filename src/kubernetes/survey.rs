//! What there should be of a stack, against a snapshot of what there is.

use super::api::Cluster;
use super::commands::{self, Place};
use super::diagnosis;
use super::drift::{self, SECRETS};
use super::environment::{self, Variable};
use super::history;
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::manifest::{self, Parts};
use super::options::Options;
use super::pull;
use super::record::Entry;
use super::snapshot::Snapshot;
use crate::engine;
use crate::engine::plan::{Desired, Field, Fields, Observed};
use crate::engine::platform::{Inputs, Survey};
use crate::error::Report;
use crate::model::{BindingValue, Daemon, ExternalBinding, Grants, Resource, ResourceType, Stack, names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan calls a daemon's token for commands.
const TOKEN_FIELD: &str = "commandsToken";

/// A daemon as it is to be, and what has to be done for that.
#[derive(Debug, Default)]
pub struct Wanted {
    /// All its objects but the version's Secret.
    pub objects: Vec<Object>,
    /// Those that are not there, or differ.
    pub changed: Vec<Object>,
    /// The version's Secret, where it has to be made.
    pub secret: Option<Object>,
    /// What it has and is not to have.
    pub stale: Vec<(Kind, String)>,
    /// Whether it has to be given a token for its commands.
    pub token: bool,
    /// Whether it has tokens and takes no commands any more.
    pub leaves: bool,
}

/// What has been read of the cluster besides the deployment's own objects.
struct Surroundings<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    deployment: &'a str,
    stack: &'a Stack,
    inputs: &'a Inputs,
    snapshot: &'a Snapshot,
    /// The Secrets that bindings refer to: key by key, as text.
    referenced: BTreeMap<String, BTreeMap<String, String>>,
    /// The Secrets of every vault.
    vaults: BTreeMap<String, Vec<String>>,
    /// Where its daemons take commands from.
    place: Option<&'a Place>,
}

/// Compares the stack with the snapshot.
///
/// # Errors
/// One that lists every daemon that cannot be put together.
pub async fn survey(
    cluster: &Cluster,
    options: &Options,
    deployment: &str,
    stack: &Stack,
    inputs: &Inputs,
    snapshot: &Snapshot,
    place: Option<&Place>,
) -> Result<(Survey, BTreeMap<String, Wanted>), Report> {
    let referenced = read_referenced(cluster, stack, inputs).await?;
    let vaults = read_vaults(cluster, deployment, stack, inputs).await?;
    let around = Surroundings { cluster, options, deployment, stack, inputs, snapshot, referenced, vaults, place };
    let mut survey = Survey { desired: Vec::with_capacity(stack.resources.len()), observed: Vec::new() };
    let mut all = BTreeMap::new();
    let mut results = Vec::new();
    for (id, entry) in stack.resources.iter() {
        match &entry.config {
            Resource::Daemon(daemon) => match around.daemon(daemon, entry.lifecycle.as_str()) {
                Ok((wanted, desired, observed)) => {
                    survey.desired.push(desired);
                    survey.observed.extend(observed);
                    all.insert(id.to_owned(), wanted);
                }
                Err(error) => results.push(Err(error.with("daemon", id))),
            },
            resource => {
                let fields = stored_fields(&json!(resource), &binding_json(inputs.bindings.get(id)));
                survey.desired.push(Desired { id: id.to_owned(), kind: resource.kind().as_str(), fields });
            }
        }
    }
    engine::all_of("plan", deployment, results)?;
    survey.observed.extend(undeclared(stack, snapshot));
    survey.observed.extend(recorded(snapshot));
    Ok((survey, all))
}

/// Daemons that the stack does not have, or has as something else.
pub fn undeclared<'s>(stack: &'s Stack, snapshot: &'s Snapshot) -> impl Iterator<Item = Observed> + 's {
    let gone = snapshot.daemons().into_iter().filter(|id| stack.daemon(id).is_none());
    gone.map(observed_daemon)
}

/// A daemon of which no more is known than that it is there.
pub fn observed_daemon(id: &str) -> Observed {
    Observed { id: id.to_owned(), kind: "daemon".to_owned(), fields: Fields::new(), unhealthy: None }
}

/// Resources that are written down only.
pub fn recorded(snapshot: &Snapshot) -> Vec<Observed> {
    let entries = snapshot.record.as_ref().map(|record| record.entries.as_slice()).unwrap_or_default();
    let others = entries.iter().filter(|entry| entry.kind != ResourceType::Daemon.as_str());
    others
        .map(|entry| Observed {
            id: entry.id.clone(),
            kind: entry.kind.clone(),
            fields: stored_fields(&entry.config, &entry.binding),
            unhealthy: None,
        })
        .collect()
}

fn stored_fields(config: &Value, binding: &Value) -> Fields {
    let mut fields = Fields::new();
    fields.insert("config".to_owned(), Field::shown(config.clone()));
    if !binding.is_null() {
        fields.insert("binding".to_owned(), Field::shown(binding.clone()));
    }
    fields
}

/// What is written down about a stack.
pub fn entries(stack: &Stack, inputs: &Inputs) -> Vec<Entry> {
    let entry = |(id, entry): (&str, &crate::model::Entry)| {
        let stored = entry.config.as_daemon().is_none();
        Entry {
            id: id.to_owned(),
            kind: entry.config.kind().as_str().to_owned(),
            lifecycle: entry.lifecycle.as_str().to_owned(),
            config: if stored { json!(entry.config) } else { Value::Null },
            binding: if stored { binding_json(inputs.bindings.get(id)) } else { Value::Null },
        }
    };
    stack.resources.iter().map(entry).collect()
}

/// A binding with its references, as it was given.
fn binding_json(binding: Option<&ExternalBinding>) -> Value {
    let Some(binding) = binding else { return Value::Null };
    let mut object = json!({ "service": binding.service });
    for (name, value) in &binding.fields {
        object[name] = match value {
            BindingValue::Text(text) => json!(text),
            BindingValue::Integer(number) => json!(number),
            BindingValue::SecretRef { name, key } => json!({ "secretRef": { "name": name, "key": key } }),
        };
    }
    object
}

async fn read_referenced(
    cluster: &Cluster,
    stack: &Stack,
    inputs: &Inputs,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Report> {
    let mut wanted: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for daemon in stack.daemons() {
        for (id, binding) in environment::bound(stack, daemon, &inputs.bindings) {
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

/// The Secrets of each vault that somebody is let at: those named `<prefix>-<key>`.
async fn read_vaults(
    cluster: &Cluster,
    deployment: &str,
    stack: &Stack,
    inputs: &Inputs,
) -> Result<BTreeMap<String, Vec<String>>, Report> {
    let mut vaults = BTreeMap::new();
    for daemon in stack.daemons() {
        for (id, binding) in environment::bound(stack, daemon, &inputs.bindings) {
            let is_vault = stack.resources.get(id).is_some_and(|entry| entry.config.kind() == ResourceType::Vault);
            match binding {
                None => drop(vaults.insert(id.to_owned(), names::kubernetes_name(deployment, id))),
                Some(binding) if is_vault && binding.service == "kubernetes-secret" => {
                    let text = |name: &str| match binding.fields.get(name) {
                        Some(BindingValue::Text(text)) => text.clone(),
                        _ => String::new(),
                    };
                    // A Role says nothing about other namespaces; who names one has to give the rights there.
                    if text("namespace") == cluster.namespace {
                        vaults.insert(id.to_owned(), text("vaultPrefix"));
                    }
                }
                Some(_) => {}
            }
        }
    }
    if vaults.is_empty() {
        return Ok(BTreeMap::new());
    }
    let all = cluster.names(Kind::Secret).await?;
    let of = |prefix: &str| {
        let ours = all.iter().filter(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-')));
        ours.cloned().collect()
    };
    Ok(vaults.into_iter().map(|(id, prefix)| (id, of(&prefix))).collect())
}

impl Surroundings<'_> {
    fn daemon(&self, daemon: &Daemon, lifecycle: &str) -> Result<(Wanted, Desired, Option<Observed>), Report> {
        let owner = Owner { deployment: self.deployment, stack: &self.stack.id, id: &daemon.id };
        let name = owner.name();
        let live = self.snapshot.get(Kind::Deployment, &name);
        let former = self.former_secrets(live);
        let secrets = self.secrets(daemon, live, &former)?;
        let place = self.place.filter(|_| daemon.commands_enabled);
        let receiver = place.map(|place| place.receiver(owner));
        let environment = environment::environment(
            owner,
            &self.cluster.namespace,
            self.stack,
            daemon,
            &secrets.keys().cloned().collect(),
            &self.inputs.bindings,
            receiver.as_ref(),
        );
        let data = self.secret_data(daemon, &environment, &secrets);
        let (secret, existing) = self.version_secret(owner, &data)?;
        let objects = manifest::objects(&Parts {
            owner,
            daemon,
            lifecycle,
            environment: &environment,
            secret: secret.as_deref(),
            commands: receiver.as_ref(),
            vaults: &self.grants(daemon),
            registries: &self.options.registries,
            pull: pull::credentials(&manifest::reference(daemon)?.1, self.options)?,
        })?;
        let mut wanted = Wanted {
            secret: secret.filter(|_| !existing).map(|name| manifest::secret(owner, &name, &data)),
            ..Wanted::default()
        };
        let (mut to, mut from) = (Fields::new(), Fields::new());
        for object in &objects {
            let staying = self.snapshot.staying(object.kind, &object.name);
            let (new, old) = match staying {
                Some(live) => drift::differences(object, live),
                None => (drift::existence(object), Fields::new()),
            };
            if new != old || staying.is_none() {
                wanted.changed.push(object.clone());
            }
            to.extend(new);
            from.extend(old);
        }
        let tokens = self.snapshot.of_daemon(&daemon.id).filter(|object| commands::is_token(object, &name));
        let tokens: Vec<&Object> = tokens.collect();
        if let (Some(place), Some(receiver)) = (place, &receiver) {
            wanted.token = self.snapshot.staying(Kind::Secret, &receiver.secret).is_none();
            if wanted.token || !place.has_callers(self.deployment, self.snapshot) {
                to.insert(TOKEN_FIELD.to_owned(), Field::secret(receiver.secret.as_str()));
            }
        } else if !tokens.is_empty() {
            wanted.leaves = true;
            from.insert(TOKEN_FIELD.to_owned(), Field::secret(""));
        }
        wanted.stale = stale(self.snapshot.of_daemon(&daemon.id), &objects, &name);
        let present = objects.iter().filter(|object| object.kind == Kind::Deployment).chain(live).collect::<Vec<_>>();
        let past = history::past(self.snapshot, &daemon.id);
        // A deploy that was cut short has not come to it.
        wanted.stale.extend(history::garbage(self.snapshot, &daemon.id, &present, &past));
        for (kind, name) in &wanted.stale {
            if let Some(object) = self.snapshot.get(*kind, name) {
                from.extend(drift::existence(object));
            }
        }
        if wanted.leaves {
            // Past versions refer to them, but nobody may take its commands any more.
            wanted.stale.extend(tokens.iter().map(|secret| (secret.kind, secret.name.clone())));
        }
        wanted.objects = objects;
        shown_secrets(&mut to, &data, &environment);
        shown_secrets(&mut from, &former, &environment);
        for path in data.keys().filter(|key| data.get(*key) == former.get(*key)).map(|key| format!("{SECRETS}{key}")) {
            to.remove(&path);
            from.remove(&path);
        }
        let exists = self.snapshot.of_daemon(&daemon.id).next().is_some();
        if !exists {
            to = new_fields(&wanted, &data, &environment);
        }
        let unhealthy = live.filter(|_| to == from).and_then(|live| {
            let blocked = diagnosis::blocked(live, self.snapshot.pods_of(&daemon.id))?;
            Some(format!("it is not up: {}", blocked.reason))
        });
        let observed = exists.then(|| Observed { fields: from, unhealthy, ..observed_daemon(&daemon.id) });
        Ok((wanted, Desired { id: daemon.id.clone(), kind: "daemon", fields: to }, observed))
    }

    /// What the Secret of the present version holds, by variable.
    fn former_secrets(&self, live: Option<&Object>) -> BTreeMap<String, String> {
        let Some(name) = live.and_then(secret_of) else { return BTreeMap::new() };
        self.snapshot.get(Kind::Secret, &name).map(text_data).unwrap_or_default()
    }

    /// The secrets given now over those that the daemon has.
    fn secrets(
        &self,
        daemon: &Daemon,
        live: Option<&Object>,
        former: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Report> {
        let bindings: BTreeSet<String> = daemon.links.iter().map(|link| names::binding_variable(&link.id)).collect();
        let given = self.inputs.secrets.get(&daemon.id);
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
    fn secret_data(
        &self,
        daemon: &Daemon,
        environment: &environment::Environment,
        secrets: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut data = secrets.clone();
        for (id, binding) in environment::bound(self.stack, daemon, &self.inputs.bindings) {
            let variable = names::binding_variable(id);
            if let (Some(binding), Some(Variable::Secret)) = (binding, environment.get(&variable)) {
                let secret = |name: &str, key: &str| self.referenced.get(name)?.get(key).cloned();
                data.insert(variable, environment::compose(binding, secret));
            }
        }
        data
    }

    /// The name of the Secret that holds `data`, and whether it is there already. None for no data.
    fn version_secret(
        &self,
        owner: Owner<'_>,
        data: &BTreeMap<String, String>,
    ) -> Result<(Option<String>, bool), Report> {
        if data.is_empty() {
            return Ok((None, false));
        }
        let prefix = manifest::secret_prefix(&owner.name());
        let versions = self
            .snapshot
            .of_daemon(owner.id)
            .filter(|object| object.kind == Kind::Secret && object.name.starts_with(&prefix));
        let mut same: Vec<&Object> =
            versions.filter(|object| text_data(object) == *data && object.body["immutable"] == true).collect();
        // Of two alike the present one is kept.
        let present = self.snapshot.get(Kind::Deployment, &owner.name()).and_then(secret_of);
        same.sort_by_key(|object| Some(&object.name) != present.as_ref());
        if let Some(object) = same.first() {
            return Ok((Some(object.name.clone()), true));
        }
        // A name that says nothing about the contents, not even whether they are the same as another's.
        let random = crate::sys::process::random_name()
            .map_err(|error| Report::new("INTERNAL_ERROR", format!("no random numbers: {error}")))?;
        Ok((Some(format!("{prefix}{}", &random[..8])), false))
    }

    /// What the daemon may do with which Secrets of vaults.
    fn grants(&self, daemon: &Daemon) -> Vec<(Grants, Vec<String>)> {
        let vaults = daemon.links.iter().filter(|link| link.kind == ResourceType::Vault);
        let granted = vaults
            .filter_map(|link| Some((self.stack.grants(&daemon.id, &link.id), self.vaults.get(&link.id)?.clone())));
        granted.collect()
    }
}

/// What a daemon has and is not to have. Versions' Secrets, tokens and revisions are seen to when a version is replaced.
fn stale<'o>(there: impl Iterator<Item = &'o Object>, wanted: &[Object], name: &str) -> Vec<(Kind, String)> {
    let prefix = manifest::secret_prefix(name);
    there
        .filter(|object| object.kind != Kind::ControllerRevision)
        .filter(|object| object.kind != Kind::Secret || !object.name.starts_with(&prefix))
        .filter(|object| !commands::is_token(object, name))
        .filter(|object| !wanted.iter().any(|wanted| wanted.kind == object.kind && wanted.name == object.name))
        .map(|object| (object.kind, object.name.clone()))
        .collect()
}

/// What is told about a daemon that is not there yet.
fn new_fields(wanted: &Wanted, data: &BTreeMap<String, String>, environment: &environment::Environment) -> Fields {
    let mut fields: Fields = wanted.objects.iter().flat_map(drift::summary).collect();
    shown_secrets(&mut fields, data, environment);
    fields
}

/// Values of secrets in the place of the names of the Secrets that hold them.
fn shown_secrets(fields: &mut Fields, data: &BTreeMap<String, String>, environment: &environment::Environment) {
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

/// Whether the deployment is known at all.
pub fn is_there(snapshot: &Snapshot) -> bool {
    snapshot.record.is_some() || !snapshot.objects.is_empty()
}

/// The lifecycle that a live daemon was declared with.
pub fn lifecycle(live: &Object) -> String {
    live.annotation(labels::LIFECYCLE).unwrap_or("live").to_owned()
}
