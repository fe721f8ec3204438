//! What differs between an object as it is to be and as it is, in the words of the model where it has some.

use super::environment::unescape;
use super::kind::{Kind, Object};
use super::labels;
use super::manifest::{CONTAINER, GRACE_SECONDS};
use super::ownership::applied;
use crate::engine::plan::{Field, Fields, sounds_secret};
use serde_json::Value;
use std::collections::BTreeMap;

/// A place in an object: keys, and names of items.
type Path = Vec<String>;

/// The prefix of fields that hold secrets; as on Local.
pub const SECRETS: &str = "secrets.";

/// Values that we set at other times than the rest, and that are no difference.
const NOT_COMPARED: [&str; 2] = [labels::ROLLED_BACK, labels::VERSION];

/// The differing leaves: what is to be, and what is. Both are empty where the object is as it should be.
pub fn differences(desired: &Object, live: &Object) -> (Fields, Fields) {
    let wanted = leaves(&desired.body);
    let ours = applied(&live.body).unwrap_or_default();
    let ours = leaves(&ours);
    let (mut to, mut from) = (Fields::new(), Fields::new());
    let mut compare = |path: &Path| {
        let is = at(&live.body, path);
        if wanted.get(path).copied() != is && !path.iter().any(|key| NOT_COMPARED.contains(&key.as_str())) {
            let name = name(desired.kind, path);
            let declared = |value: &&Value| !is_default(&name, value);
            if let Some(value) = wanted.get(path).copied().filter(declared) {
                to.insert(name.clone(), field(path, value));
            }
            if let Some(value) = is.filter(declared) {
                from.insert(name.clone(), field(path, value));
            }
        }
    };
    wanted.keys().for_each(&mut compare);
    // What we applied once and do not want any more is still ours.
    let is_only_name = |path: &Path| {
        // Somebody has taken over the rest of an item that is still ours by its name.
        path.split_last().is_some_and(|(last, item)| {
            last == "name"
                && at(&live.body, &item.to_vec()).and_then(Value::as_object).is_some_and(|item| item.len() > 1)
        })
    };
    let unwanted = ours.keys().filter(|path| !wanted.contains_key(*path) && !is_only_name(path));
    unwanted.for_each(&mut compare);
    (to, from)
}

/// That an object is there, where what is in it does not matter.
pub fn existence(object: &Object) -> Fields {
    if object.kind == Kind::Deployment {
        return summary(object);
    }
    let mut path = object.kind.as_str().to_owned();
    path[..1].make_ascii_lowercase();
    Fields::from([(path, Field::shown(object.name.as_str()))])
}

/// Everything of an object that has a word in the model: what one reads about a new daemon.
pub fn summary(desired: &Object) -> Fields {
    let leaves = leaves(&desired.body);
    let known = leaves.iter().filter_map(|(path, value)| Some((model_name(desired.kind, path)?, field(path, value))));
    known.filter(|(name, field)| !is_default(name, &field.value)).collect()
}

/// The leaves of an object. Items of lists go by their names where they have some; other lists are one value.
fn leaves(body: &Value) -> BTreeMap<Path, &Value> {
    let mut found = BTreeMap::new();
    collect(body, &mut Vec::new(), &mut found);
    found
}

fn collect<'v>(value: &'v Value, path: &mut Path, found: &mut BTreeMap<Path, &'v Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                path.push(key.clone());
                collect(member, path, found);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item_name(item).is_some()) => {
            for item in items {
                let name = item_name(item).unwrap_or_default();
                path.push(name.to_owned());
                collect(item, path, found);
                // The name is in the path already; it says something only where nothing else does.
                let alone = item.as_object().is_some_and(|members| members.len() == 1);
                path.push("name".to_owned());
                if !alone {
                    found.remove(path);
                }
                path.truncate(path.len() - 2);
            }
        }
        leaf => drop(found.insert(path.clone(), leaf)),
    }
}

/// What an item of a map-like list is told apart by. Subjects of a RoleBinding have names too, and are one value.
fn item_name(item: &Value) -> Option<&str> {
    if item.get("kind").is_some() { None } else { item.get("name")?.as_str() }
}

fn at<'v>(body: &'v Value, path: &Path) -> Option<&'v Value> {
    path.iter().try_fold(body, |value, key| match value {
        Value::Array(items) => items.iter().find(|item| item_name(item) == Some(key)),
        other => other.get(key),
    })
}

/// What a leaf is called in a plan.
fn name(kind: Kind, path: &Path) -> String {
    model_name(kind, path).unwrap_or_else(|| {
        let mut kind = kind.as_str().to_owned();
        kind[..1].make_ascii_lowercase();
        format!("{kind}.{}", path.join("."))
    })
}

/// As the model calls it; `None` for what is Kubernetes' own.
fn model_name(kind: Kind, path: &Path) -> Option<String> {
    if kind != Kind::Deployment {
        return None;
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let name = match path.as_slice() {
        ["metadata", "annotations", labels::PROFILE] => "permissions",
        ["spec", "template", "spec", "terminationGracePeriodSeconds"] => "stopGracePeriodSeconds",
        ["spec", "template", "spec", "containers", CONTAINER, rest @ ..] => match rest {
            ["image"] => "code.image",
            ["command"] => "command",
            ["resources", "requests", "cpu"] => "cpu",
            ["resources", "requests", "memory"] => "memory.min",
            ["resources", "limits", "memory"] => "memory.desired",
            ["env", name, "value" | "name"] => return Some(format!("environment.{name}")),
            ["env", name, "valueFrom", "secretKeyRef", _] => return Some(format!("{SECRETS}{name}")),
            _ => return None,
        },
        _ => return None,
    };
    Some(name.to_owned())
}

/// Whether a value is the one that a daemon has without saying anything: a plan calls that none, as on Local.
fn is_default(name: &str, value: &Value) -> bool {
    name == "stopGracePeriodSeconds" && *value == GRACE_SECONDS
}

fn field(path: &Path, value: &Value) -> Field {
    let (last, before) = match path.as_slice() {
        [.., before, last] => (last.as_str(), before.as_str()),
        _ => ("", ""),
    };
    let in_env = path.iter().any(|key| key == "env");
    match value {
        // A variable without a value is an empty one.
        Value::String(_) if in_env && last == "name" && path.iter().rev().nth(2).is_some_and(|key| key == "env") => {
            Field::shown("")
        }
        Value::String(name) if in_env && path.iter().any(|key| key == "secretKeyRef") => Field::secret(name.as_str()),
        Value::String(text) if in_env && last == "value" => {
            let text = unescape(text);
            if sounds_secret(before) { Field::secret(text) } else { Field::shown(text) }
        }
        // The contents of a Secret.
        value if path.first().is_some_and(|first| first == "data") => Field::secret(value.clone()),
        value => Field::shown(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(env: Value, managed: bool, replicas: u32) -> Object {
        let mut body = json!({ "metadata": { "name": "d" }, "spec": { "replicas": replicas, "template": { "spec": {
            "containers": [{ "name": CONTAINER, "image": "i", "env": env }] } } } });
        if managed {
            let env = json!({ "k:{\"name\":\"OLD\"}": { "f:name": {}, "f:value": {} } });
            let containers = json!({ "k:{\"name\":\"daemon\"}": { "f:name": {}, "f:image": {}, "f:env": env } });
            body["metadata"]["managedFields"] = json!([{ "manager": "alien", "operation": "Apply", "fieldsV1": {
                "f:spec": { "f:template": { "f:spec": { "f:containers": containers } } } } }]);
            body["spec"]["defaulted"] = json!(true);
        }
        Object { kind: Kind::Deployment, name: "d".to_owned(), body }
    }

    #[test]
    fn what_others_add_is_no_difference_and_what_we_no_longer_want_is() {
        let desired = object(json!([{ "name": "A", "value": "$$(X)" }]), false, 1);
        let live = object(json!([{ "name": "OLD", "value": "1" }, { "name": "THEIRS", "value": "2" }]), true, 0);
        let (to, from) = differences(&desired, &live);
        let of =
            |fields: &Fields| fields.iter().map(|(path, field)| format!("{path}={}", field.value)).collect::<Vec<_>>();
        assert_eq!(of(&to), ["deployment.spec.replicas=1", "environment.A=\"$(X)\""]);
        assert_eq!(of(&from), ["deployment.spec.replicas=0", "environment.OLD=\"1\""]);
        let same = object(json!([]), false, 1);
        assert_eq!(differences(&same, &object(json!([]), true, 1)), (Fields::new(), Fields::new()));
    }
}
