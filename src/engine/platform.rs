//! What the engine asks of a place where daemons run.

use super::doctor::Checkup;
use super::event::Events;
use super::exec::{self, Session};
use super::images::{ImageList, PruneReport};
use super::logs::{self, LogReader};
use super::manager::{Install, Uninstall};
use super::plan::{Action, Desired, Observed, Plan};
use super::startup::{self, Startup};
use super::status::{DeploymentStatus, Usage};
use super::vault;
use crate::error::Report;
use crate::model::{Bindings, Platform as Name, Stack};
use crate::preflight::Check;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;

/// Environment that is given at deploy and shown nowhere: daemon id → name → value.
pub type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// What a deploy is given besides the stack.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// A secret that is not given keeps the value that it has.
    pub secrets: Secrets,
    /// External bindings by the id of their resource.
    pub bindings: Bindings,
}

/// What there should be, in the order of the stack, and what there is.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    pub desired: Vec<Desired>,
    pub observed: Vec<Observed>,
}

/// Keeps others from changing a deployment.
#[async_trait]
pub trait Lock: Send + Sync {
    /// Whether nobody else can have changed the deployment between this platform's last look at it and now.
    fn is_seamless(&self) -> bool {
        false
    }

    /// Lets others go on. Dropping it does the same, a little later where that takes a message to somebody.
    async fn release(self: Box<Self>) {}
}

/// A place where daemons run. Local and Kubernetes are the two.
///
/// Every method may be called from any process that reaches the place; [`Platform::lock`] keeps changes apart. An
/// instance serves one call of the engine, and may remember what it has seen.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Its name in the model.
    fn name(&self) -> Name;

    /// Whom to tell what is about no step in particular, such as a server that is away. Before any other call.
    fn listen(&mut self, _events: &Events) {}

    /// What must be so before anything is changed, and touches the place to find out.
    async fn facts(&self, stack: &Stack) -> Vec<Check>;

    /// Whether the lock costs so little that it is taken also where nothing may have to be changed.
    fn locks_first(&self) -> bool;

    /// Keeps others from changing this deployment. Waits for whoever has it.
    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Lock>, Report>;

    /// Which resources there are of a deployment; nothing where it does not exist. Fields may be left out.
    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report>;

    /// What there should be and what there is. Finds out what images mean now, and fetches none.
    async fn survey(&self, deployment: &str, stack: &Stack, inputs: &Inputs) -> Result<Survey, Report>;

    /// Finds out whether the plan would be let through, changing nothing: rights, quotas, other owners.
    async fn rehearse(&self, _deployment: &str, _plan: &Plan) -> Result<(), Report> {
        Ok(())
    }

    /// Records which stack the deployment is of, before its first resource.
    async fn begin(&self, deployment: &str, stack: &Stack) -> Result<(), Report>;

    /// How many resources are brought up at once.
    fn at_once(&self) -> usize {
        32
    }

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

    /// The names of all deployments there are.
    async fn list(&self) -> Result<Vec<String>, Report>;

    /// How it is, at this moment.
    ///
    /// # Errors
    /// `DEPLOYMENT_NOT_FOUND`.
    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report>;

    /// What its daemons use at this moment, by id, as far as that is known. `status` is theirs of just now.
    async fn usage(&self, _status: &DeploymentStatus) -> BTreeMap<String, Usage> {
        BTreeMap::new()
    }

    /// Follows the status.
    async fn watch(&self, deployment: &str) -> Result<Box<dyn StatusWatch>, Report>;

    /// Stops one daemon and starts it again; returns once it is up.
    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report>;

    /// Brings back the version of one daemon that ran before this one; returns once it is up.
    ///
    /// # Errors
    /// `NO_PREVIOUS_VERSION`.
    async fn rollback(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report>;

    /// A reader of one daemon's log.
    ///
    /// # Errors
    /// `DEPLOYMENT_NOT_FOUND`, `RESOURCE_NOT_FOUND`.
    async fn logs(&self, deployment: &str, id: &str, options: logs::Options) -> Result<Box<dyn LogReader>, Report>;

    /// Runs a program beside a daemon, in its container.
    ///
    /// # Errors
    /// `DAEMON_NOT_RUNNING`.
    async fn exec(&self, deployment: &str, id: &str, options: exec::Options) -> Result<Session, Report>;

    /// Installs a manager of commands, or makes the one that is there as it is to be; returns once it answers, with what
    /// there is to tell about it.
    async fn install_manager(&self, _wanted: &Install, _events: &Events) -> Result<Value, Report> {
        Err(installs_none(self.name()))
    }

    /// Removes the manager of commands.
    async fn uninstall_manager(&self, _wanted: Uninstall, _events: &Events) -> Result<Value, Report> {
        Err(installs_none(self.name()))
    }

    /// Changes what a vault holds, and gives the names of its values. The deployment may be one that is yet to be made.
    async fn change_vault(&self, deployment: &str, id: &str, change: &vault::Change) -> Result<Vec<String>, Report> {
        Err(vault::kept_elsewhere(self.name(), deployment, id, change))
    }

    /// The images that are kept for all daemons of this place.
    async fn images(&self) -> Result<ImageList, Report> {
        Err(keeps_none(self.name()))
    }

    /// Removes what no daemon of this place uses; with `dry_run` only says what that would be.
    async fn prune(&self, _dry_run: bool) -> Result<PruneReport, Report> {
        Err(keeps_none(self.name()))
    }

    /// Looks at the place and at what keeps daemons alive there, and mends what needs nobody's decision; with `dry_run` only
    /// says what that would be.
    async fn doctor(&self, _dry_run: bool) -> Result<Checkup, Report> {
        let message = format!("platform {} looks after itself", self.name());
        Err(Report::new("NOT_AVAILABLE", message).status(501).hint("`alien status` says how every daemon is, and why"))
    }

    /// How everything comes back when the machine has started.
    async fn startup(&self, _request: &startup::Request) -> Result<Startup, Report> {
        let message = format!("platform {} brings its daemons back by itself", self.name());
        Err(Report::new("NOT_AVAILABLE", message).status(501).hint("units are for this machine: --platform local"))
    }

    /// Waits, a short time at most, for what was left behind when a call was cut short.
    async fn settle(&self) {}
}

/// The status of a deployment as it changes.
#[async_trait]
pub trait StatusWatch: Send {
    /// The next status that differs from the last one; the first is as it is now. `None` once the deployment is gone.
    async fn next(&mut self) -> Result<Option<DeploymentStatus>, Report>;
}

fn installs_none(platform: Name) -> Report {
    let message = format!("no manager is installed on platform {platform}: a deploy starts its own where it is needed");
    Report::new("NOT_AVAILABLE", message)
        .status(501)
        .hint("managers are installed into clusters: --platform kubernetes")
}

fn keeps_none(platform: Name) -> Report {
    Report::new("NOT_AVAILABLE", format!("platform {platform} keeps its images itself, out of reach"))
        .status(501)
        .hint("images are kept, and pruned, on this machine: --platform local")
}
