//! The kinds of objects that a deployment is made of, and where the API has them.

use serde_json::Value;

/// A kind that this platform makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ServiceAccount,
    Secret,
    Role,
    RoleBinding,
    Deployment,
    /// A version that was replaced, for the way back.
    ControllerRevision,
    /// The deployment's record and lock.
    Lease,
    /// The manager's own, besides the above.
    PersistentVolumeClaim,
    Service,
    NetworkPolicy,
}

impl Kind {
    /// Every kind that deployments are made of, in the order in which objects are made.
    pub const ALL: [Kind; 7] = [
        Kind::ServiceAccount,
        Kind::Secret,
        Kind::Role,
        Kind::RoleBinding,
        Kind::Deployment,
        Kind::ControllerRevision,
        Kind::Lease,
    ];

    /// As in a manifest's `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Secret => "Secret",
            Kind::Role => "Role",
            Kind::RoleBinding => "RoleBinding",
            Kind::Deployment => "Deployment",
            Kind::ControllerRevision => "ControllerRevision",
            Kind::Lease => "Lease",
            Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
            Kind::Service => "Service",
            Kind::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// From a manifest's `kind`.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The API group; the core group is empty.
    pub fn group(self) -> &'static str {
        match self {
            Kind::ServiceAccount | Kind::Secret | Kind::PersistentVolumeClaim | Kind::Service => "",
            Kind::Role | Kind::RoleBinding => "rbac.authorization.k8s.io",
            Kind::Deployment | Kind::ControllerRevision => "apps",
            Kind::Lease => "coordination.k8s.io",
            Kind::NetworkPolicy => "networking.k8s.io",
        }
    }

    /// As in a manifest's `apiVersion`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }

    /// As in a URL and in a Role.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::ServiceAccount => "serviceaccounts",
            Kind::Secret => "secrets",
            Kind::Role => "roles",
            Kind::RoleBinding => "rolebindings",
            Kind::Deployment => "deployments",
            Kind::ControllerRevision => "controllerrevisions",
            Kind::Lease => "leases",
            Kind::PersistentVolumeClaim => "persistentvolumeclaims",
            Kind::Service => "services",
            Kind::NetworkPolicy => "networkpolicies",
        }
    }

    /// The path of all its objects in a namespace.
    pub fn path(self, namespace: &str) -> String {
        let root = if self.group().is_empty() { "/api/v1" } else { &format!("/apis/{}", self.api_version()) };
        format!("{root}/namespaces/{namespace}/{}", self.plural())
    }
}

/// An object as it is to be, or as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub name: String,
    /// All of it, `apiVersion` and `kind` included.
    pub body: Value,
}

impl Object {
    /// As in `Deployment "edge-connector"`.
    pub fn title(&self) -> String {
        format!("{} {:?}", self.kind.as_str(), self.name)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.body.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    pub fn resource_version(&self) -> Option<&str> {
        self.body.get("metadata")?.get("resourceVersion")?.as_str()
    }

    /// Counts the changes of the object's specification.
    pub fn generation(&self) -> i64 {
        self.body["metadata"]["generation"].as_i64().unwrap_or_default()
    }
}
