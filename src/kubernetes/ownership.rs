//! Which fields of an object are ours: `metadata.managedFields` (structured-merge-diff's `FieldsV1`).

use super::api::MANAGER;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// What we applied, as it is now: the part of the live object that we own. `None` where we own nothing.
///
/// Applying it again changes nothing, unless the object is changed meanwhile.
pub fn applied(live: &Value) -> Option<Value> {
    let ours = our_entry(live)?;
    let mut object = extract(live, &ours["fieldsV1"]);
    for key in ["apiVersion", "kind"] {
        object[key] = live[key].clone();
    }
    object["metadata"]["name"] = live["metadata"]["name"].clone();
    Some(object)
}

/// When what we applied was last another than before, by the server's clock.
pub fn applied_at(live: &Value) -> Option<Timestamp> {
    our_entry(live)?["time"].as_str()?.parse().ok()
}

fn our_entry(live: &Value) -> Option<&Value> {
    live["metadata"]["managedFields"].as_array()?.iter().find(|entry| {
        entry["manager"] == MANAGER
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    })
}

/// The part of `live` that `fields` names.
fn extract(live: &Value, fields: &Value) -> Value {
    let Some(fields) = fields.as_object() else { return live.clone() };
    if fields.is_empty() {
        return live.clone();
    }
    match live {
        Value::Object(members) => {
            let mut object = Map::new();
            for (key, below) in fields {
                let Some(name) = key.strip_prefix("f:") else { continue };
                if let Some(member) = members.get(name) {
                    object.insert(name.to_owned(), extract(member, below));
                }
            }
            Value::Object(object)
        }
        Value::Array(items) => {
            let owned = |item: &Value| {
                fields.iter().find(|(key, _)| names_item(key, item)).map(|(_, below)| extract(item, below))
            };
            Value::Array(items.iter().filter_map(owned).collect())
        }
        other => other.clone(),
    }
}

/// Whether `k:{…}` or `v:…` means this item of a list.
fn names_item(key: &str, item: &Value) -> bool {
    if let Some(value) = key.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let Some(keys) = key.strip_prefix("k:") else { return false };
    let Ok(Value::Object(keys)) = serde_json::from_str::<Value>(keys) else { return false };
    keys.iter().all(|(name, value)| item.get(name) == Some(value))
}

/// Those who also apply some of what we want otherwise, and whether one of them would put it back.
///
/// Who applied a field (operation `Apply`) means to keep it. A plain update (`kubectl edit`, `scale`, `set`, a patch)
/// was made in passing: it is drift, and is put back.
pub fn rivals(live: &Value, message_of_conflict: &str) -> Vec<String> {
    let entries = live["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rivals: Vec<String> = entries
        .iter()
        .filter(|entry| entry["operation"] == "Apply")
        .filter_map(|entry| entry["manager"].as_str())
        .filter(|manager| *manager != MANAGER && message_of_conflict.contains(&format!("{manager:?}")))
        .map(str::to_owned)
        .collect();
    rivals.dedup();
    rivals
}

/// Whether an object that we had not known was there before we tried to apply it: somebody else has a say in it, or it
/// has a version, which a dry run gives to nothing new.
pub fn is_somebodys(after_dry_run: &Value) -> bool {
    if after_dry_run["metadata"]["resourceVersion"].is_string() {
        return true;
    }
    let entries = after_dry_run["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().any(|entry| entry["manager"] != MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "d", "uid": "u", "managedFields": [
                { "manager": "kubectl-edit", "operation": "Update", "fieldsV1": {} },
                { "manager": "alien", "operation": "Update", "subresource": "status", "fieldsV1": { "f:status": {} } },
                { "manager": "alien", "operation": "Apply", "fieldsV1": {
                    "f:spec": { "f:replicas": {}, "f:containers": {
                        "k:{\"name\":\"c\"}": { ".": {}, "f:name": {}, "f:env": {
                            "k:{\"name\":\"A\"}": { ".": {}, "f:name": {}, "f:value": {} } } } },
                        "f:finalizers": { "v:\"x\"": {} } } } },
                { "manager": "gitops", "operation": "Apply", "fieldsV1": {} }] },
            "spec": { "replicas": 1, "defaulted": true, "finalizers": ["x", "y"], "containers": [
                { "name": "sidecar" },
                { "name": "c", "imagePullPolicy": "Always", "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }] }] },
        })
    }

    #[test]
    fn what_was_applied_is_found_again() {
        let expected = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
            "spec": { "replicas": 1, "finalizers": ["x"], "containers": [{ "name": "c", "env": [{ "name": "A", "value": "1" }] }] },
        });
        assert_eq!(applied(&live()), Some(expected));
        assert_eq!(applied(&json!({ "metadata": { "name": "x" } })), None);
    }

    #[test]
    fn only_those_who_apply_are_rivals() {
        let message = r#"Apply failed with 2 conflicts: conflict with "gitops" using apps/v1: .x; conflict with "kubectl-edit" using apps/v1: .y"#;
        assert_eq!(rivals(&live(), message), ["gitops"]);
        assert_eq!(rivals(&live(), r#"conflict with "kubectl-edit" using apps/v1: .y"#), Vec::<String>::new());
    }
}
