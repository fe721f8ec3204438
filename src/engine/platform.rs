//! What the engine asks of a place where daemons run.

use super::event::Events;
use super::plan::{Action, Desired, Observed};
use super::status::DeploymentStatus;
use crate::error::Report;
use crate::model::{Platform as Name, Stack};
use crate::preflight::Check;
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Environment that is given at deploy and shown nowhere: daemon id → name → value.
pub type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// A place where daemons run. Local and Kubernetes are the two.
///
/// Every method may be called from any process that reaches the place; [`Platform::lock`] keeps changes apart.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Its name in the model.
    fn name(&self) -> Name;

    /// What must be so before anything is changed, and touches the place to find out.
    async fn facts(&self, stack: &Stack) -> Vec<Check>;

    /// Keeps others from changing this deployment until the guard is dropped. Waits for whoever has it.
    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Send + Sync>, Report>;

    /// What there is of a deployment; nothing where it does not exist.
    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report>;

    /// What there should be. Finds out what images mean now, and fetches none.
    ///
    /// A secret that is not given keeps the value that it has.
    async fn desire(
        &self,
        deployment: &str,
        stack: &Stack,
        secrets: &Secrets,
        observed: &[Observed],
    ) -> Result<Vec<Desired>, Report>;

    /// Records which stack the deployment is of, before its first resource.
    async fn begin(&self, deployment: &str, stack: &Stack) -> Result<(), Report>;

    /// Makes one resource as desired, and returns once it is up.
    async fn apply(
        &self,
        deployment: &str,
        stack: &Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<(), Report>;

    /// Returns once a resource that nothing has to be done about is up.
    async fn wait_up(&self, deployment: &str, id: &str, kind: &str) -> Result<(), Report>;

    /// Removes one resource, and returns once nothing of it is left but data.
    async fn remove(&self, deployment: &str, id: &str, kind: &str, events: &Events) -> Result<(), Report>;

    /// Forgets a deployment whose resources have been removed; with `data`, also what they stored.
    async fn end(&self, deployment: &str, data: bool) -> Result<(), Report>;

    /// How it is, at this moment.
    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report>;

    /// Stops one daemon and starts it again; returns once it is up.
    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report>;
}
