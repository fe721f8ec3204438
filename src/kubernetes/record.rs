//! A deployment's own object: a Lease, which says what the deployment is of, and who is changing it.
//!
//! Nothing depends on what it says about the stack but the order of a status: daemons are known by their objects.

use super::kind::{Kind, Object};
use super::labels;
use crate::model::names;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is written down about a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub lifecycle: String,
    /// Of what is not a daemon: how it was declared, and the binding that was given for it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub binding: Value,
}

/// What the Lease says.
#[derive(Debug, Clone)]
pub struct Record {
    /// As it was read; `None` where this was only just written down.
    pub lease: Option<Object>,
    /// The id of the stack; empty where nothing was written down yet.
    pub stack: String,
    /// In the order of the stack.
    pub entries: Vec<Entry>,
}

impl Record {
    pub fn read(lease: Object) -> Record {
        let stack = lease.annotation(labels::STACK).unwrap_or_default().to_owned();
        let entries = lease.annotation(labels::RESOURCES).and_then(|text| serde_json::from_str(text).ok());
        Record { stack, entries: entries.unwrap_or_default(), lease: Some(lease) }
    }

    /// What was just written down.
    pub fn written(stack: String, entries: Vec<Entry>) -> Record {
        Record { lease: None, stack, entries }
    }

    /// Where a resource stands in the stack; what is not written down comes last.
    pub fn position(&self, id: &str) -> usize {
        self.entries.iter().position(|entry| entry.id == id).unwrap_or(usize::MAX)
    }
}

/// What a deployment's Lease is called.
pub fn lease_name(deployment: &str) -> String {
    names::kubernetes_name("alien", deployment)
}

/// A Lease that is yet to be made, with what `patch` gave where that is known.
pub fn lease(deployment: &str, spec: Value, patch: Option<Value>) -> Object {
    let name = lease_name(deployment);
    let mut metadata = match patch {
        Some(mut patch) => patch["metadata"].take(),
        None => json!({ "labels": labels::of_record(deployment, None), "annotations": {} }),
    };
    metadata["name"] = json!(name);
    metadata["annotations"][labels::DEPLOYMENT] = json!(deployment);
    let body = json!({
        "apiVersion": Kind::Lease.api_version(),
        "kind": Kind::Lease.as_str(),
        "metadata": metadata,
        "spec": spec,
    });
    Object { kind: Kind::Lease, name, body }
}

/// The change that writes down what the deployment is of.
pub fn patch(deployment: &str, stack: &str, entries: &[Entry]) -> Value {
    json!({ "metadata": {
        "labels": labels::of_record(deployment, Some(stack)),
        "annotations": { labels::STACK: stack, labels::RESOURCES: json!(entries).to_string() },
    } })
}
