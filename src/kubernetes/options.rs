//! Which cluster, as whom, and how.

use crate::engine::manager::External;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that Kubernetes is told besides the stack. Nothing comes from the process's environment.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the cluster's address and the user's credentials are.
    pub access: Access,
    /// `None`: the context's namespace, in a pod its own, else `default`.
    pub namespace: Option<String>,
    /// Whether a namespace that is missing is made. It is never removed.
    pub create_namespace: bool,
    /// Whether fields that another manager applies are taken over.
    pub force_conflicts: bool,
    /// What becomes of an update that does not come up.
    pub on_failure: OnFailure,
    /// By the host of an image reference, `docker.io` for Docker Hub.
    pub registries: BTreeMap<String, Registry>,
    /// A Docker configuration whose credentials for the images' registries the cluster is to pull with.
    pub docker_config: Option<PathBuf>,
    /// A manager of commands that runs elsewhere, in place of the namespace's own.
    pub manager: Option<External>,
}

/// Where the cluster's address and the user's credentials are.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Kubeconfig files, the first one first (`KUBECONFIG`). Those that were named must be there.
    pub kubeconfig: Vec<PathBuf>,
    /// Whether somebody named them, or they are the default, which may be missing.
    pub named: bool,
    /// `None`: the current one.
    pub context: Option<String>,
    /// The API server as a pod sees it: `KUBERNETES_SERVICE_HOST` and `_PORT`. Used where there is no kubeconfig.
    pub service: Option<(String, String)>,
    /// `HTTPS_PROXY`; a cluster's own `proxy-url` wins.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}

/// What becomes of an update that does not come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The version before is brought back.
    #[default]
    Rollback,
    /// It stays as it is, for somebody to look at.
    Keep,
}

/// How the cluster reaches a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// `HOST[:PORT]` that takes the place of the image's own.
    pub host: Option<String>,
    /// What to pull with, both or neither; goes into an image pull Secret.
    pub username: Option<String>,
    pub password: Option<String>,
}
