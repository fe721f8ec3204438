//! Whose an object is: names, labels and annotations.
//!
//! Labels are the recommended ones (Kubernetes documentation, "Recommended Labels"). A label cannot hold every id, so
//! the ids themselves stand in annotations.

use super::kind::{Kind, Object};
use crate::model::names;
use serde_json::{Map, Value, json};

/// Ids as they were declared.
pub const DEPLOYMENT: &str = "alien.dev/deployment";
pub const RESOURCE: &str = "alien.dev/resource";
pub const STACK: &str = "alien.dev/stack";
pub const LIFECYCLE: &str = "alien.dev/lifecycle";
pub const PROFILE: &str = "alien.dev/permissions";
/// On a pod: which version of the daemon it is. On an object: that it was brought back, and why.
pub const VERSION: &str = "alien.dev/version";
pub const ROLLED_BACK: &str = "alien.dev/rolled-back";
/// On a Lease: the resources of the stack.
pub const RESOURCES: &str = "alien.dev/resources";
/// What `kubectl rollout restart` sets, too.
pub const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// On a Secret with tokens: which manager's they are. On the manager's own Secret: which it is.
pub const MANAGER_ID: &str = "alien.dev/manager";
/// On the manager's pod and Secret: the Secret with the certificate that it shows, and whether an authority is in it.
pub const TLS_SECRET: &str = "alien.dev/tls-secret";
pub const TLS_CA: &str = "alien.dev/tls-ca";
/// On a pod whose daemon takes commands, for the manager's NetworkPolicy.
pub const COMMANDS: &str = "alien.dev/commands";

/// The manager of commands of a namespace, as a daemon; no user's deployment can be called so.
pub const MANAGER: Owner<'static> = Owner { deployment: "@manager", stack: "@manager", id: "manager" };
/// What each of its objects is called.
pub const MANAGER_NAME: &str = "alien-manager";

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const INSTANCE: &str = "app.kubernetes.io/instance";
pub const NAME: &str = "app.kubernetes.io/name";

/// A daemon of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub deployment: &'a str,
    pub stack: &'a str,
    pub id: &'a str,
}

impl Owner<'_> {
    /// What its objects are called.
    pub fn name(&self) -> String {
        if self.is_manager() { MANAGER_NAME.to_owned() } else { names::kubernetes_name(self.deployment, self.id) }
    }

    fn is_manager(&self) -> bool {
        self.deployment == MANAGER.deployment
    }

    /// What chooses its pods, for ever the same.
    pub fn selector(&self) -> Value {
        json!({ INSTANCE: names::label(self.deployment), NAME: names::label(self.id) })
    }

    /// The labels of each of its objects.
    pub fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/component": if self.is_manager() { "manager" } else { "daemon" },
            INSTANCE: names::label(self.deployment),
            MANAGED_BY: "alien",
            NAME: names::label(self.id),
            "app.kubernetes.io/part-of": names::label(self.stack),
        })
    }

    /// The annotations of each of its objects.
    pub fn annotations(&self) -> Map<String, Value> {
        let mut annotations = Map::new();
        annotations.insert(DEPLOYMENT.to_owned(), json!(self.deployment));
        annotations.insert(RESOURCE.to_owned(), json!(self.id));
        annotations
    }

    /// An object of its own, with what makes it so; `rest` is laid over that.
    pub fn object(&self, kind: Kind, name: String, rest: Value) -> Object {
        let mut body = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": { "name": name, "labels": self.labels(), "annotations": self.annotations() },
        });
        if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
            body.extend(rest);
        }
        Object { kind, name, body }
    }
}

/// The objects of one deployment.
pub fn of_deployment(deployment: &str) -> String {
    format!("{MANAGED_BY}=alien,{INSTANCE}={}", names::label(deployment))
}

/// The objects of every deployment.
pub fn of_all() -> String {
    format!("{MANAGED_BY}=alien")
}

/// The labels of a deployment's own object, its Lease.
pub fn of_record(deployment: &str, stack: Option<&str>) -> Value {
    let mut labels = json!({ INSTANCE: names::label(deployment), MANAGED_BY: "alien" });
    if let Some(stack) = stack {
        labels["app.kubernetes.io/part-of"] = json!(names::label(stack));
    }
    labels
}

/// Whether an object is of that deployment: its label says so, and its annotation, which cannot be anybody else's.
pub fn is_of(object: &Object, deployment: &str) -> bool {
    object.annotation(DEPLOYMENT) == Some(deployment)
}
