//! `Platform` on this machine: images, sandboxes and supervisors, no container engine.

mod account;
mod commands;
mod containers;
mod control;
mod daemon;
mod deployment;
mod doctor;
mod elsewhere;
mod exec;
mod fetch;
mod helper;
mod images;
mod layout;
mod limits;
mod logs;
mod managers;
mod observe;
mod place;
mod reboot;
mod startup;
mod usage;
mod vault;
mod version;
mod watch;

use crate::engine;
use crate::engine::doctor::Checkup;
use crate::engine::event::Events;
use crate::engine::exec::Session;
use crate::engine::images::{ImageList, PruneReport};
use crate::engine::logs::{self as engine_logs, LogReader};
use crate::engine::manager::External;
use crate::engine::plan::{Action, Desired, Field, Fields, Observed};
use crate::engine::platform::{Inputs, Lock, Platform, Secrets, StatusWatch, Survey};
use crate::engine::startup::{Request, Startup};
use crate::engine::status::{DeploymentStatus, Usage};
use crate::engine::vault::Change as VaultChange;
use crate::error::{Issue, Report};
use crate::image::{self, Store, StoreOptions};
use crate::model::{self, Daemon, Resource, Stack};
use crate::preflight::{Check, Status};
use crate::sandbox::ids::Ids;
use crate::supervisor::{scanner, spec};
use async_trait::async_trait;
use daemon::DaemonDir;
use doctor::Doctor;
use fetch::declared_image;
use helper::Helper;
use layout::Layout;
pub use place::Place;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use version::{Declared, Document, SECRETS};

/// Where and how things run on this machine. Nothing comes from the process's environment.
#[derive(Debug, Clone)]
pub struct Options {
    /// Absolute path of the state directory.
    pub state_dir: PathBuf,
    /// The package's `alien-supervisor`.
    pub helper: PathBuf,
    /// The package's `alien-manager`.
    pub program: PathBuf,
    /// A manager of commands that runs elsewhere, in place of one of this state directory.
    pub manager: Option<External>,
    /// Registries, credentials, pull policy.
    pub images: image::Options,
    /// How the store of images is used.
    pub store: StoreOptions,
    /// What daemons of new deployments run under.
    pub runtime: Runtime,
    /// Where a container engine may listen, in the order that they are asked in.
    pub engines: Vec<String>,
}

/// What daemons run under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Runtime {
    /// What their deployment has; a new one has processes where this machine can make sandboxes, else a container engine
    /// where one answers.
    #[default]
    Auto,
    /// Supervisors of ours.
    Process,
    /// Docker or Podman.
    Engine,
}

/// Local, its daemons being processes of ours.
pub struct Local {
    layout: Layout,
    options: Options,
    ids: Ids,
    machine: OnceCell<Machine>,
    /// What this call of the engine has asked others to do, and what they do although it is called off.
    calls: TaskTracker,
}

/// What is found out with the first call that changes something.
struct Machine {
    helper: Helper,
    store: Store,
    overlay: bool,
}

impl Local {
    /// Nothing is touched yet.
    pub fn new(options: Options) -> Self {
        let layout = Layout::new(options.state_dir.clone());
        Local { layout, options, ids: account::ids(), machine: OnceCell::new(), calls: TaskTracker::new() }
    }

    async fn machine(&self) -> Result<&Machine, Report> {
        self.machine
            .get_or_try_init(|| async {
                self.layout.make()?;
                let (layout, packaged, ids) = (self.layout.clone(), self.options.helper.clone(), self.ids.clone());
                let store = self.options.store.clone();
                let probe = move || {
                    let helper = Helper::install(&layout, &packaged)?;
                    let capability = helper.probe(&ids)?;
                    let store = Store::open_with(&layout.store(), store)?;
                    match capability.sandbox {
                        Some(failure) => Err(failure.into()),
                        None => Ok(Machine { helper, store, overlay: capability.overlay.is_none() }),
                    }
                };
                tokio::task::spawn_blocking(probe).await.map_err(|error| Report::new("INTERNAL", error.to_string()))?
            })
            .await
    }

    fn helper(&self) -> Result<Helper, Report> {
        self.layout.make()?;
        Helper::install(&self.layout, &self.options.helper)
    }

    fn daemon_dir<'a>(&'a self, machine: &'a Machine, deployment: &'a str, id: &'a str) -> DaemonDir<'a> {
        DaemonDir { layout: &self.layout, helper: &machine.helper, deployment, id }
    }

    /// What there should be, of images with these digests.
    fn desired(
        &self,
        stack: &Stack,
        inputs: &Inputs,
        digests: &BTreeMap<&str, String>,
        observed: &[Observed],
    ) -> Result<Vec<Desired>, Report> {
        let takes_commands = stack.daemons().any(|daemon| daemon.commands_enabled);
        let manager = takes_commands.then(|| match &self.options.manager {
            Some(manager) => version::Source {
                url: manager.url.clone(),
                called: manager.deployment_id.clone(),
                authority: manager.authority(),
            },
            None => version::Source { url: commands::url(&self.layout), called: None, authority: None },
        });
        let mut desired = Vec::with_capacity(stack.resources.len());
        for (id, entry) in stack.resources.iter() {
            let Resource::Daemon(daemon) = &entry.config else {
                let mut fields = Fields::new();
                fields.insert("config".to_owned(), Field::shown(json!(entry.config)));
                desired.push(Desired { id: id.to_owned(), kind: entry.config.kind().as_str(), fields });
                continue;
            };
            let digest = &digests[declared_image(daemon)?];
            let secrets = kept_secrets(id, &inputs.secrets, observed);
            let fields = version::fields(stack, daemon, digest, &secrets, manager.as_ref());
            desired.push(Desired { id: id.to_owned(), kind: "daemon", fields });
        }
        Ok(desired)
    }

    /// The daemon that there should be, and what it is made from. Of any other resource that alone is noted.
    fn declared<'a>(
        &self,
        deployment: &str,
        stack: &'a Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<Option<(&'a Daemon, Declared)>, Report> {
        let entry = stack.resources.get(&desired.id);
        let entry = entry.ok_or_else(|| Report::new("INTERNAL", format!("{:?} is not in the stack", desired.id)))?;
        let declared = Declared { lifecycle: entry.lifecycle.as_str().to_owned(), fields: desired.fields.clone() };
        if let Resource::Daemon(daemon) = &entry.config {
            return Ok(Some((daemon, declared)));
        }
        let stored = deployment::Stored { kind: desired.kind.to_owned(), declared };
        deployment::store(&self.layout, deployment, &desired.id, &stored)?;
        events.resource(&desired.id, action, "running", None);
        Ok(None)
    }

    /// Forgets a deployment whose resources have been removed; with `data`, also what they stored.
    async fn end_of(&self, deployment: &str, data: bool) -> Result<(), Report> {
        self.forget_callers(deployment, data).await?;
        let stored = self.layout.data(deployment);
        if data && stored.exists() {
            self.helper()?.remove(&stored, &self.ids)?;
        } else {
            // Goes only where nothing was stored.
            let _ = std::fs::remove_dir(&stored);
        }
        deployment::forget(&self.layout, deployment)
    }

    /// The folder of a daemon that must be there.
    ///
    /// # Errors
    /// `DEPLOYMENT_NOT_FOUND`, `RESOURCE_NOT_FOUND`.
    fn existing(&self, deployment: &str, id: &str) -> Result<PathBuf, Report> {
        let not_found = || observe::not_found(&self.layout, deployment);
        let meta = deployment::meta(&self.layout, deployment).ok_or_else(not_found)?;
        let folder = |id: &str| self.layout.daemon(deployment, id);
        let is_there = |id: &&str| folder(id).join(spec::CURRENT).exists();
        if is_there(&id) {
            return Ok(folder(id));
        }
        let there: Vec<&str> = meta.order.iter().map(String::as_str).filter(is_there).collect();
        Err(engine::failure::no_daemon(deployment, id, &there))
    }
}

#[async_trait]
impl Platform for Local {
    fn name(&self) -> model::Platform {
        model::Platform::Local
    }

    async fn facts(&self, stack: &Stack) -> Vec<Check> {
        let issue = match self.machine().await {
            Ok(_) => None,
            Err(report) => {
                Some(Issue { path: Vec::new(), code: "custom".to_owned(), message: report.message, hint: report.hint })
            }
        };
        let sandbox = Check {
            id: "local-sandbox",
            description: "This machine can make sandboxes, and the state directory can be used".into(),
            status: if issue.is_none() { Status::Passed } else { Status::Failed },
            issues: issue.into_iter().collect(),
        };
        vec![sandbox, limits::enforced(&self.layout, stack)]
    }

    fn locks_first(&self) -> bool {
        true
    }

    /// Most of the time a daemon that is brought up is waited for, to count as up: that costs nobody anything.
    fn at_once(&self) -> usize {
        256
    }

    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Lock>, Report> {
        self.layout.make()?;
        let lock = deployment::lock(&self.layout, deployment, events).await?.until(&self.calls);
        // Who changes something brings its own version along. Where there is nothing, nothing is brought.
        if self.layout.root().join(scanner::LOCK).exists() {
            self.machine().await?.helper.renew().await;
        }
        Ok(Box::new(lock))
    }

    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report> {
        Ok(observe::observe(&self.layout, deployment).await)
    }

    async fn survey(&self, deployment: &str, stack: &Stack, inputs: &Inputs) -> Result<Survey, Report> {
        let observed = observe::observe(&self.layout, deployment).await;
        let machine = self.machine().await?;
        let digests = self.resolve(&machine.store, deployment, stack).await?;
        let desired = self.desired(stack, inputs, &digests, &observed)?;
        Ok(Survey { desired, observed })
    }

    async fn begin(&self, deployment: &str, stack: &Stack) -> Result<(), Report> {
        self.begin_under(None, deployment, stack).await
    }

    async fn apply(
        &self,
        deployment: &str,
        stack: &Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<(), Report> {
        let machine = self.machine().await?;
        let Some((daemon, declared)) = self.declared(deployment, stack, desired, action, events)? else {
            return Ok(());
        };
        let dir = self.daemon_dir(machine, deployment, &desired.id);
        if action == Action::Restart {
            return dir.restart(action, events).await;
        }
        let digest = version::digest(&desired.fields);
        let image = self
            .fetch(machine, daemon, digest, events)
            .await
            .map_err(|error| error.with("daemon", daemon.id.as_str()))?;
        let run = version::spec(&version::Parts {
            layout: &self.layout,
            deployment,
            stack,
            daemon,
            fields: &desired.fields,
            image: &image,
            ids: &self.ids,
            overlay: machine.overlay,
            commands: self.access(deployment, daemon).await?,
        })?;
        dir.put(&Document { declared, run }, action, events).await?;
        self.leave_managers(deployment, &daemon.id, daemon.commands_enabled, events).await
    }

    async fn wait_up(&self, deployment: &str, id: &str, kind: &str) -> Result<(), Report> {
        if kind != "daemon" {
            return Ok(());
        }
        self.daemon_dir(self.machine().await?, deployment, id).wait_up().await
    }

    async fn remove(&self, deployment: &str, id: &str, kind: &str, events: &Events) -> Result<(), Report> {
        if kind == "daemon" {
            let machine = self.machine().await?;
            self.daemon_dir(machine, deployment, id).remove(events).await?;
            return self.leave_managers(deployment, id, false, events).await;
        }
        deployment::unstore(&self.layout, deployment, id)?;
        events.resource(id, Action::Delete, "removed", None);
        Ok(())
    }

    async fn end(&self, deployment: &str, data: bool) -> Result<(), Report> {
        self.end_of(deployment, data).await
    }

    async fn list(&self) -> Result<Vec<String>, Report> {
        Ok(deployment::names(&self.layout))
    }

    async fn logs(
        &self,
        deployment: &str,
        id: &str,
        options: engine_logs::Options,
    ) -> Result<Box<dyn LogReader>, Report> {
        let dir = self.existing(deployment, id)?;
        if options.previous {
            return Err(no_previous_log());
        }
        Ok(Box::new(logs::Reader::open(&dir, options)?))
    }

    async fn images(&self) -> Result<ImageList, Report> {
        let (layout, store) = (self.layout.clone(), self.machine().await?.store.clone());
        let list = tokio::task::spawn_blocking(move || images::list(&layout, &store));
        list.await.map_err(|error| Report::new("INTERNAL", error.to_string()))?
    }

    async fn change_vault(&self, deployment: &str, id: &str, change: &VaultChange) -> Result<Vec<String>, Report> {
        let helper = match vault::is_foreign(&self.layout, deployment, id) {
            true => Some(self.machine().await?.helper.clone()),
            false => None,
        };
        let (layout, ids, change) = (self.layout.clone(), self.ids.clone(), change.clone());
        let (deployment, id) = (deployment.to_owned(), id.to_owned());
        let work = move || {
            let helper = helper.as_ref().map(|helper| (helper, &ids));
            vault::change(&layout, (&deployment, &id), &change, helper)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Report::new("INTERNAL", error.to_string()))?
    }

    async fn prune(&self, dry_run: bool) -> Result<PruneReport, Report> {
        let Machine { helper, store, .. } = self.machine().await?;
        let (layout, helper, store, ids) = (self.layout.clone(), helper.clone(), store.clone(), self.ids.clone());
        let pruned = tokio::task::spawn_blocking(move || images::prune(&layout, &helper, &store, &ids, dry_run));
        pruned.await.map_err(|error| Report::new("INTERNAL", error.to_string()))?
    }

    async fn startup(&self, request: &Request) -> Result<Startup, Report> {
        self.layout.make()?;
        let (layout, packaged, request) = (self.layout.clone(), self.options.helper.clone(), request.clone());
        let work = move || startup::startup(&layout, &Helper::install(&layout, &packaged)?, &request);
        tokio::task::spawn_blocking(work).await.map_err(|error| Report::new("INTERNAL", error.to_string()))?
    }

    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report> {
        observe::status(&self.layout, deployment).await
    }

    async fn usage(&self, status: &DeploymentStatus) -> BTreeMap<String, Usage> {
        usage::usage(&self.layout, &status.name, &status.resources).await
    }

    async fn doctor(&self, dry_run: bool) -> Result<Checkup, Report> {
        self.layout.make()?;
        let machine = self.machine().await;
        let machine = machine.map(|machine| (&machine.helper, machine.overlay));
        Ok(Doctor::new(&self.layout, &self.ids, dry_run).visit(machine).await)
    }

    async fn watch(&self, deployment: &str) -> Result<Box<dyn StatusWatch>, Report> {
        Ok(Box::new(watch::Watch::new(self.layout.clone(), deployment)))
    }

    async fn rollback(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.existing(deployment, id)?;
        self.daemon_dir(self.machine().await?, deployment, id).roll_back(events).await
    }

    async fn exec(&self, deployment: &str, id: &str, options: engine::exec::Options) -> Result<Session, Report> {
        let dir = self.existing(deployment, id)?;
        let machine = self.machine().await?;
        let Some(pid) = control::status(&dir).await?.pid else {
            let message =
                format!("daemon {id:?} of deployment {deployment:?} is not running: no program can run beside it");
            return Err(Report::new("DAEMON_NOT_RUNNING", message).status(409).hint("`alien status` says how it is"));
        };
        exec::exec(&machine.helper, &dir, pid, &options)
    }

    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.existing(deployment, id)?;
        self.daemon_dir(self.machine().await?, deployment, id).restart(Action::Restart, events).await
    }
}

fn no_previous_log() -> Report {
    let message = "on Local the log of a daemon goes on through its restarts: there is no log of the run before";
    Report::new("NOT_AVAILABLE", message).status(501).hint("leave out previous (--previous)")
}

/// The secrets given now over those that the daemon has.
fn kept_secrets(id: &str, given: &Secrets, observed: &[Observed]) -> BTreeMap<String, String> {
    let former = observed.iter().filter(|observed| observed.id == id).flat_map(|observed| &observed.fields);
    let mut secrets: BTreeMap<String, String> = former
        .filter_map(|(path, field)| Some((path.strip_prefix(SECRETS)?.to_owned(), field.value.as_str()?.to_owned())))
        .collect();
    secrets.extend(given.get(id).cloned().unwrap_or_default());
    secrets
}
