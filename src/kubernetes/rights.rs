//! What a deploy has to be allowed, and whether it is.

use super::api::Cluster;
use super::kind::Kind;
use super::yaml;
use crate::error::{Issue, Report};
use futures_util::future::join_all;
use http::Method;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use serde_json::{Value, json};

/// A resource of the API, and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

const fn right(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { group, resource, verbs }
}

/// Making, changing and removing objects.
const CHANGE: &[&str] = &["get", "list", "create", "patch", "delete"];
const FOLLOW: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Everything that plan, deploy, status, logs, restart, rollback and destroy do in a namespace.
pub const NEEDED: [Right; 10] = [
    right("", "serviceaccounts", CHANGE),
    // Vaults hand on rights to Secrets, and nobody can hand on what he has not: hence `update`.
    right("", "secrets", &["get", "list", "create", "update", "patch", "delete"]),
    right("rbac.authorization.k8s.io", "roles", CHANGE),
    right("rbac.authorization.k8s.io", "rolebindings", CHANGE),
    right("apps", "deployments", FOLLOW),
    right("apps", "controllerrevisions", CHANGE),
    right("coordination.k8s.io", "leases", CHANGE),
    right("", "pods", &["get", "list", "watch"]),
    right("", "pods/log", &["get"]),
    right("", "events", &["list"]),
];

/// What daemons that take commands need besides: the manager is reached through it.
const COMMANDS: Right = right("", "pods/portforward", &["create", "get"]);

/// What `alien exec` needs besides.
const EXEC: Right = right("", "pods/exec", &["create", "get"]);

/// The least Role, for `kubectl apply`; with `commands`, for daemons that take some.
pub fn role(namespace: &str, commands: bool) -> String {
    let rule =
        |right: &Right| json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": right.verbs });
    let role = json!({
        "apiVersion": Kind::Role.api_version(),
        "kind": "Role",
        "metadata": { "name": "alien-deployer", "namespace": namespace },
        "rules": NEEDED.iter().chain([&EXEC]).chain(commands.then_some(&COMMANDS)).map(rule).collect::<Vec<_>>(),
    });
    let takers = if commands { ", pods/portforward for daemons that take commands" } else { "" };
    format!(
        "# What `alien` needs to deploy into this namespace; pods/exec is for `alien exec` alone{takers}. Bind it to whoever\n\
         # deploys: kubectl create rolebinding alien-deployer --role=alien-deployer --user=NAME -n {namespace}\n{}",
        yaml::document(&role)
    )
}

/// Every right that is missing, each with the rule that would give it; `commands` as in [`role`].
///
/// One review of all rules; where the server says that it is incomplete, those that seem to be missing are asked for
/// one by one.
pub async fn missing(cluster: &Cluster, commands: bool) -> Result<Vec<Issue>, Report> {
    let namespace = cluster.namespace.as_str();
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": namespace },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let review: SelfSubjectRulesReview =
        cluster.ask(Method::POST, path, Some(("application/json", &review)), "reviewing rights").await?;
    let status = review.status.unwrap_or_default();
    let allowed = |right: &Right, verb: &str| {
        status.resource_rules.iter().any(|rule| {
            let has = |list: &Option<Vec<String>>, wanted: &str| {
                list.as_ref().is_some_and(|list| list.iter().any(|entry| entry == "*" || entry == wanted))
            };
            rule.resource_names.as_ref().is_none_or(Vec::is_empty)
                && rule.verbs.iter().any(|entry| entry == "*" || entry == verb)
                && has(&rule.api_groups, right.group)
                && (has(&rule.resources, right.resource) || wildcard_subresource(&rule.resources, right.resource))
        })
    };
    let mut missing: Vec<(&Right, &str)> = Vec::new();
    for right in NEEDED.iter().chain(commands.then_some(&COMMANDS)) {
        missing.extend(right.verbs.iter().filter(|verb| !allowed(right, verb)).map(|verb| (right, *verb)));
    }
    if status.incomplete && !missing.is_empty() {
        let answers = join_all(missing.iter().map(|(right, verb)| is_allowed(cluster, right, verb))).await;
        let mut refused = Vec::new();
        for (entry, answer) in missing.into_iter().zip(answers) {
            if !answer? {
                refused.push(entry);
            }
        }
        missing = refused;
    }
    Ok(issues(&missing, namespace))
}

/// `*/log` stands for `pods/log`.
fn wildcard_subresource(resources: &Option<Vec<String>>, wanted: &str) -> bool {
    let Some((_, sub)) = wanted.split_once('/') else { return false };
    resources.as_ref().is_some_and(|list| list.iter().any(|entry| entry.strip_prefix("*/") == Some(sub)))
}

async fn is_allowed(cluster: &Cluster, right: &Right, verb: &str) -> Result<bool, Report> {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let attributes = json!({
        "namespace": cluster.namespace, "verb": verb, "group": right.group, "resource": resource, "subresource": subresource,
    });
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review: SelfSubjectAccessReview =
        cluster.ask(Method::POST, path, Some(("application/json", &review)), "reviewing rights").await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

/// One for each resource.
fn issues(missing: &[(&Right, &str)], namespace: &str) -> Vec<Issue> {
    let mut issues: Vec<Issue> = Vec::new();
    let mut resources: Vec<&Right> = missing.iter().map(|(right, _)| *right).collect();
    resources.dedup();
    for right in resources {
        let verbs: Vec<&str> = missing.iter().filter(|(other, _)| *other == right).map(|(_, verb)| *verb).collect();
        let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
        let message = format!("may not {} {}{group} in namespace {namespace:?}", verbs.join(", "), right.resource);
        let rule: Value = json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": verbs });
        let hint = format!(
            "a Role with this rule would allow it: {rule}; `alien render --platform kubernetes --rbac` prints it whole"
        );
        issues.push(Issue::new(Vec::new(), "custom", message).hint(hint));
    }
    issues
}
