//! Manifests for whoever applies them: no cluster is asked, and no secret is told.

use super::commands;
use super::environment::{self, Variable};
use super::kind::Object;
use super::labels::Owner;
use super::manifest::{self, Parts};
use super::options::Options;
use super::yaml;
use crate::engine::platform::Inputs;
use crate::error::Report;
use crate::model::{BindingValue, Bindings, Daemon, ExternalBinding, Stack};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The manifests of a stack as YAML: the same stack gives the same bytes.
///
/// Environment that is secret, and bindings that refer to Secrets, come from the Secret `<name>-secrets`, which whoever
/// applies the manifests makes: the head of each daemon says with which keys.
///
/// # Errors
/// `PREFLIGHT_FAILED` is for the caller to find; here only an image that no cluster can pull.
pub fn render(name: &str, stack: &Stack, inputs: &Inputs, options: &Options) -> Result<String, Report> {
    let mut text = String::new();
    for daemon in stack.daemons() {
        let lifecycle = stack.resources.get(&daemon.id).map_or("live", |entry| entry.lifecycle.as_str());
        render_daemon(&mut text, name, stack, daemon, lifecycle, inputs, options)?;
    }
    Ok(text)
}

fn render_daemon(
    text: &mut String,
    deployment: &str,
    stack: &Stack,
    daemon: &Daemon,
    lifecycle: &str,
    inputs: &Inputs,
    options: &Options,
) -> Result<(), Report> {
    let owner = Owner { deployment, stack: &stack.id, id: &daemon.id };
    let namespace = options.namespace.as_deref().unwrap_or("default");
    let secrets: BTreeSet<String> =
        inputs.secrets.get(&daemon.id).into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let receiver = daemon.commands_enabled.then(|| commands::rendered(owner, namespace, options.manager.as_ref()));
    let receiver = receiver.as_ref();
    let environment = environment::environment(owner, namespace, stack, daemon, &secrets, &inputs.bindings, receiver);
    let secret = format!("{}{}", owner.name(), manifest::SECRETS);
    // Which keys a vault has is the cluster's to say.
    let linked: Vec<&str> = environment::bound(stack, daemon, &inputs.bindings)
        .filter(|(_, binding)| binding.is_none())
        .map(|(id, _)| id)
        .collect();
    let vaults: Vec<_> = linked.iter().map(|id| (stack.grants(&daemon.id, id), Vec::new())).collect();
    let objects = manifest::objects(&Parts {
        owner,
        daemon,
        lifecycle,
        environment: &environment,
        secret: Some(&secret),
        commands: receiver,
        vaults: &vaults,
        registries: &options.registries,
        pull: None,
    })?;
    let keys = environment.iter().filter(|(_, variable)| **variable == Variable::Secret);
    for (key, _) in keys {
        let _ = writeln!(text, "# needs: Secret {secret}, key {key}{}", composed(daemon, key, &inputs.bindings));
    }
    if let Some(receiver) = receiver {
        let (secret, id, deployment) = (&receiver.secret, &daemon.id, &receiver.deployment);
        let _ = writeln!(
            text,
            "# needs: Secret {secret}, key {}: what `alien token create --role receive --resource {id} --name {deployment}` \
             prints, from the manager at {}",
            commands::TOKEN,
            receiver.url
        );
    }
    for vault in linked {
        let prefix = crate::model::names::kubernetes_name(deployment, vault);
        let account = owner.name();
        let _ = writeln!(
            text,
            "# needs: a Role that lets ServiceAccount {account} at the Secrets {prefix}-KEY of vault {vault}, by name"
        );
    }
    for object in objects {
        text.push_str("---\n");
        text.push_str(&yaml::document(&in_namespace(object, options.namespace.as_deref()).body));
    }
    Ok(())
}

/// What has to be in a key that is not simply a value.
fn composed(daemon: &Daemon, key: &str, bindings: &Bindings) -> String {
    let link = daemon.links.iter().find(|link| crate::model::names::binding_variable(&link.id) == key);
    let Some(binding) = link.and_then(|link| bindings.get(&link.id)) else { return String::new() };
    format!(", as JSON: {}", environment::compose(&placeholders(binding), |_, _| None))
}

/// A binding with the names of its secrets in the place of their values.
fn placeholders(binding: &ExternalBinding) -> ExternalBinding {
    let mut shown = binding.clone();
    for value in shown.fields.values_mut() {
        if let BindingValue::SecretRef { name, key } = value {
            *value = BindingValue::Text(format!("<key {key} of Secret {name}>"));
        }
    }
    shown
}

fn in_namespace(mut object: Object, namespace: Option<&str>) -> Object {
    if let Some(namespace) = namespace {
        object.body["metadata"]["namespace"] = namespace.into();
    }
    object
}
