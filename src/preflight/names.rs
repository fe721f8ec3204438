//! Does each resource get an object of its own in the cluster.

use super::{Rule, Status, Subject, config_path};
use crate::error::Issue;
use crate::model::Platform;
use crate::model::names::kubernetes_name;
use std::collections::HashMap;

pub(super) const DISTINCT: Rule = Rule {
    id: "kubernetes-names-distinct",
    description: "No two ids become the same Kubernetes name",
    on_issue: Status::Failed,
    run: distinct,
};

fn distinct(subject: &Subject) -> Option<Vec<Issue>> {
    if subject.platform != Platform::Kubernetes {
        return None;
    }
    let mut owners: HashMap<String, &str> = HashMap::new();
    let mut issues = Vec::new();
    for id in subject.stack.resources.keys() {
        let name = kubernetes_name(&subject.stack.id, id);
        if let Some(owner) = owners.get(&name) {
            let message = format!("\"{owner}\" and \"{id}\" would both be called {name} in the cluster");
            issues.push(Issue::new(config_path(id, &["id".into()]), "custom", message).hint("rename one of them"));
        } else {
            owners.insert(name, id);
        }
    }
    Some(issues)
}
