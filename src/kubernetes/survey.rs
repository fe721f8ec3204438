//! What there should be of a stack, against a snapshot of what there is.

use super::api::Cluster;
use super::commands::{self, Place};
use super::diagnosis;
use super::drift::{self, SECRETS};
use super::environment;
use super::history;
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::manifest::{self, Parts};
use super::options::Options;
use super::pull;
use super::record::Entry;
use super::snapshot::Snapshot;
use super::version_secret::{self, Referenced};
use crate::engine;
use crate::engine::plan::{Desired, Field, Fields, Observed};
use crate::engine::platform::{Inputs, Survey};
use crate::error::Report;
use crate::model::{BindingValue, Daemon, ExternalBinding, Grants, Resource, ResourceType, Stack, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    referenced: Referenced,
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
    let referenced = version_secret::read_referenced(cluster, stack, &inputs.bindings).await?;
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
        let former = version_secret::former(self.snapshot, live);
        let secrets = version_secret::kept(daemon, self.inputs.secrets.get(&daemon.id), live, &former)?;
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
        let bindings = &self.inputs.bindings;
        let data = version_secret::data(self.stack, daemon, bindings, &self.referenced, &environment, &secrets);
        let (secret, existing) = version_secret::name(self.snapshot, owner, &data)?;
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
        version_secret::shown(&mut to, &data, &environment);
        version_secret::shown(&mut from, &former, &environment);
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
    version_secret::shown(&mut fields, data, environment);
    fields
}

/// Whether the deployment is known at all.
pub fn is_there(snapshot: &Snapshot) -> bool {
    snapshot.record.is_some() || !snapshot.objects.is_empty()
}

/// The lifecycle that a live daemon was declared with.
pub fn lifecycle(live: &Object) -> String {
    live.annotation(labels::LIFECYCLE).unwrap_or("live").to_owned()
}
