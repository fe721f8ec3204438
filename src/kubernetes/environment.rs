//! A daemon's environment, exactly as it was written.

use super::commands::{CA, DIR, Receiver, TOKEN};
use super::kind::Kind;
use super::labels::Owner;
use crate::engine::manager::receiver_environment;
use crate::error::Report;
use crate::model::names::{binding_variable, kubernetes_name};
use crate::model::{BindingValue, Bindings, Daemon, ExternalBinding, ResourceType, Stack};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Where a variable's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// In the pod's specification.
    Shown(String),
    /// In the version's Secret, under the variable's own name.
    Secret,
    /// In the Secret with the daemon's token to receive commands, which is no part of the version.
    Token,
}

/// A daemon's variables by name.
pub type Environment = BTreeMap<String, Variable>;

/// The variables of a daemon: its own, its secrets, its bindings, and what every daemon gets.
pub fn environment(
    owner: Owner<'_>,
    namespace: &str,
    stack: &Stack,
    daemon: &Daemon,
    secrets: &BTreeSet<String>,
    bindings: &Bindings,
    receiver: Option<&Receiver>,
) -> Environment {
    let own = daemon.environment.iter().map(|(name, value)| (name.clone(), Variable::Shown(value.clone())));
    let mut all: Environment = own.collect();
    all.extend(secrets.iter().map(|name| (name.clone(), Variable::Secret)));
    for (id, given) in bound(stack, daemon, bindings) {
        let variable = match given {
            Some(binding) if references(binding).next().is_some() => Variable::Secret,
            Some(binding) => Variable::Shown(compose(binding, |_, _| None)),
            None => Variable::Shown(
                json!({
                    "service": "kubernetes-secret",
                    "namespace": namespace,
                    "vaultPrefix": kubernetes_name(owner.deployment, id),
                })
                .to_string(),
            ),
        };
        all.insert(binding_variable(id), variable);
    }
    all.insert("ALIEN_DEPLOYMENT_TYPE".to_owned(), Variable::Shown("kubernetes".to_owned()));
    all.insert("ALIEN_DEPLOYMENT_ID".to_owned(), Variable::Shown(owner.deployment.to_owned()));
    if let Some(receiver) = receiver {
        let shown = receiver_environment(&receiver.url, &format!("{DIR}/{TOKEN}"), daemon);
        all.extend(shown.into_iter().map(|(name, value)| (name, Variable::Shown(value))));
        all.insert("ALIEN_COMMANDS_TOKEN".to_owned(), Variable::Token);
        // At another manager it may be called otherwise.
        all.insert("ALIEN_DEPLOYMENT_ID".to_owned(), Variable::Shown(receiver.deployment.clone()));
        if receiver.ca.is_some() {
            all.insert("ALIEN_COMMANDS_CA_FILE".to_owned(), Variable::Shown(format!("{DIR}/{CA}")));
        }
    }
    all
}

/// What the daemon is bound to, with the binding that was given for it. A vault without one is the cluster's Secrets.
pub fn bound<'s>(
    stack: &'s Stack,
    daemon: &'s Daemon,
    bindings: &'s Bindings,
) -> impl Iterator<Item = (&'s str, Option<&'s ExternalBinding>)> {
    daemon.links.iter().filter_map(move |link| {
        let granted = stack.grants(&daemon.id, &link.id).any();
        let given = bindings.get(&link.id);
        // Preflight has refused what has neither.
        let bindable = given.is_some() || link.kind == ResourceType::Vault;
        (granted && bindable).then_some((link.id.as_str(), given))
    })
}

/// The keys of Secrets that a binding refers to.
pub fn references(binding: &ExternalBinding) -> impl Iterator<Item = (&str, &str)> {
    binding.fields.values().filter_map(|value| match value {
        BindingValue::SecretRef { name, key } => Some((name.as_str(), key.as_str())),
        _ => None,
    })
}

/// The JSON that the daemon reads; put together here, because `$(VAR)` inside JSON is valid only by luck.
pub fn compose(binding: &ExternalBinding, secret: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut object = Map::new();
    object.insert("service".to_owned(), json!(binding.service));
    for (name, value) in &binding.fields {
        let value = match value {
            BindingValue::Text(text) => json!(text),
            BindingValue::Integer(number) => json!(number),
            BindingValue::SecretRef { name, key } => json!(secret(name, key)),
        };
        object.insert(name.clone(), value);
    }
    Value::Object(object).to_string()
}

/// As a container's `env`. `secret` is the name of the version's Secret, `token` that of the daemon's token.
pub fn as_env(environment: &Environment, secret: &str, token: &str) -> Vec<Value> {
    let entry = |(name, variable): (&String, &Variable)| match variable {
        // An empty value is left out, as the API server does.
        Variable::Shown(value) if value.is_empty() => json!({ "name": name }),
        Variable::Shown(value) => json!({ "name": name, "value": escape(value) }),
        Variable::Secret => json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": name } } }),
        Variable::Token => json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": token, "key": TOKEN } } }),
    };
    environment.iter().map(entry).collect()
}

/// Text that Kubernetes, which replaces `$(NAME)` and reads `$$` as `$`, gives to the program as it is here.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        escaped.push(c);
        if c == '$' && text[at + 1..].starts_with(['$', '(']) {
            escaped.push('$');
        }
    }
    escaped
}

/// The other way round.
pub fn unescape(text: &str) -> String {
    text.replace("$$", "$")
}

/// A Secret or a key of one that a binding refers to is not there.
pub fn reference_missing(binding: &str, name: &str, key: Option<&str>, namespace: &str) -> Report {
    let message = match key {
        None => {
            format!("the binding of {binding:?} refers to the Secret {name:?}, which is not in namespace {namespace:?}")
        }
        Some(key) => format!(
            "the binding of {binding:?} refers to the key {key:?} of the Secret {name:?} in namespace {namespace:?}, \
             which has no such key, or no text in it"
        ),
    };
    Report::new("BINDING_SECRET_MISSING", message)
        .status(400)
        .with("kind", Kind::Secret.as_str())
        .with("name", name)
        .hint("make it first, or correct the binding's secretRef")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Expand` as Kubernetes documents it (container `env` and `command`), where no variable is known.
    fn kubernetes_reads(text: &str) -> String {
        let mut read = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            read.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                read.push('$');
                rest = after;
            } else if rest.starts_with('(') && rest.contains(')') {
                read.push_str("(replaced)");
                rest = &rest[rest.find(')').unwrap_or(0) + 1..];
            } else {
                read.push('$');
            }
        }
        read + rest
    }

    proptest::proptest! {
        #[test]
        fn what_is_escaped_arrives_as_it_was(text in "[$()A-Z \u{e9}\u{1f980}]{0,24}") {
            proptest::prop_assert_eq!(kubernetes_reads(&escape(&text)), text);
        }
    }

    #[test]
    fn only_what_would_be_replaced_is_escaped() {
        assert_eq!(escape("$HOME costs 5$"), "$HOME costs 5$");
        assert_eq!(escape("$(HOME) $$"), "$$(HOME) $$$");
    }

    #[test]
    fn a_binding_stays_json_whatever_its_secret_holds() {
        let mut fields = BTreeMap::new();
        let reference = BindingValue::SecretRef { name: "redis".to_owned(), key: "url".to_owned() };
        fields.insert("connectionUrl".to_owned(), reference);
        let binding = ExternalBinding { kind: ResourceType::Kv, service: "redis".to_owned(), fields };
        let secret = "a\"b\\c\n$(HOME)\u{1f980}";
        let text = compose(&binding, |name, key| (name == "redis" && key == "url").then(|| secret.to_owned()));
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, json!({"service": "redis", "connectionUrl": secret}));
    }
}
