//! Daemons under a container engine, Docker or Podman, where this machine makes no sandboxes or where that is asked for.
//!
//! All that a daemon is made from is the same as for processes of ours: its version (`local::version`), its data, its secrets
//! and its deployment's files lie in the state directory, and images come through our own store. What keeps the daemon
//! alive is the engine, so that nothing of ours has to stay: its restart policy, its log, its limits. Nothing is remembered
//! of what the engine knows; `keeper` says how a container is told from others, and what becomes of a deploy that was
//! killed.
//!
//! What differs, because engines do: a daemon has its writable layer for as long as its version runs, and is up once
//! it has lived a second. Podman restarts what has ended at once, without a pause that grows, and tells neither who was
//! killed for want of memory nor more of a line's time than its second.

mod body;
mod doctor;
mod engine;
mod exec;
mod found;
mod images;
mod keeper;
mod logs;
mod make;
mod names;
mod observe;
mod up;
mod update;
mod watch;

pub use doctor::visit as doctor;
pub use engine::{Engine, first_of};

use super::deployment;
use super::fetch::declared_image;
use super::version::{self, Document};
use super::{Local, observe as local_observe, usage};
use crate::engine::event::Events;
use crate::engine::exec::{Options as ExecOptions, Session};
use crate::engine::failure;
use crate::engine::images::{ImageList, PruneReport};
use crate::engine::logs::{LogReader, Options as LogOptions};
use crate::engine::plan::{Action, Desired, Observed};
use crate::engine::platform::{Inputs, Lock, Platform, StatusWatch, Survey};
use crate::engine::status::{DeploymentStatus, Usage};
use crate::error::{Issue, Report};
use crate::model::{Daemon, Platform as Name, Stack};
use crate::preflight::{Check, Status};
use crate::supervisor::spec::{self, CURRENT};
use async_trait::async_trait;
use images::Images;
use keeper::Keeper;
use names::Names;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Local, its daemons being containers.
#[derive(Clone)]
pub struct Containers {
    local: Arc<Local>,
    /// The engine that the deployment has; `None` for the first that answers.
    host: Option<String>,
    engine: Arc<OnceCell<Arc<Engine>>>,
    images: Arc<OnceCell<Images>>,
}

impl Containers {
    /// Those of an engine that a deployment has, or of the first one that answers. Nothing is asked yet.
    pub fn new(local: Arc<Local>, host: Option<String>) -> Containers {
        Containers { local, host, engine: Arc::default(), images: Arc::default() }
    }

    /// Those of an engine that has answered.
    pub fn with(local: Arc<Local>, engine: Engine) -> Containers {
        let host = Some(engine.host.clone());
        Containers { local, host, engine: Arc::new(OnceCell::new_with(Some(Arc::new(engine)))), images: Arc::default() }
    }

    /// The engine.
    ///
    /// # Errors
    /// `ENGINE_UNREACHABLE`.
    pub async fn engine(&self) -> Result<&Arc<Engine>, Report> {
        let find = || async {
            match &self.host {
                Some(host) => Engine::connect(host).await,
                None => first_of(&self.local.options.engines).await,
            }
            .map(Arc::new)
        };
        self.engine.get_or_try_init(find).await
    }

    async fn images_of(&self, engine: &Engine) -> Result<&Images, Report> {
        let local = &self.local;
        let (store, options) = (local.options.store.clone(), local.options.images.clone());
        self.images.get_or_try_init(|| Images::open(engine, &local.layout, store, options)).await
    }

    fn dir(&self, deployment: &str, id: &str) -> PathBuf {
        self.local.layout.containers(deployment).join(id)
    }

    async fn with_keeper<T>(
        &self,
        deployment: &str,
        id: &str,
        change: impl AsyncFnOnce(Keeper<'_>) -> Result<T, Report>,
    ) -> Result<T, Report> {
        let engine = self.engine().await?;
        let images = self.images_of(engine).await?;
        let state = names::identity(&self.local.layout)?;
        let names = Names { state: &state, deployment, id };
        let (layout, calls) = (&self.local.layout, &self.local.calls);
        change(Keeper { layout, engine, images, calls, names }).await
    }

    /// The folder of a daemon that must be there.
    ///
    /// # Errors
    /// `DEPLOYMENT_NOT_FOUND`, `RESOURCE_NOT_FOUND`.
    fn existing(&self, deployment: &str, id: &str) -> Result<PathBuf, Report> {
        let layout = &self.local.layout;
        let not_found = || local_observe::not_found(layout, deployment);
        let meta = deployment::meta(layout, deployment).ok_or_else(not_found)?;
        let is_there = |id: &&str| self.dir(deployment, id).join(CURRENT).exists();
        if is_there(&id) {
            return Ok(self.dir(deployment, id));
        }
        let there: Vec<&str> = meta.order.iter().map(String::as_str).filter(is_there).collect();
        Err(failure::no_daemon(deployment, id, &there))
    }

    /// The container that is to run of a daemon which is there, where it does.
    async fn running(&self, deployment: &str, id: &str) -> Result<(Arc<Engine>, String), Report> {
        let dir = self.existing(deployment, id)?;
        let engine = self.engine().await?;
        let state = names::identity(&self.local.layout)?;
        let document: Option<Document> = spec::read(&dir.join(CURRENT)).ok();
        let version = document.map(|document| document.run.version);
        let containers = found::all(engine, Names { state: &state, deployment, id }.filters()).await?;
        let running = containers.into_iter().find(|there| there.runs() && Some(there.version()) == version.as_deref());
        match running {
            Some(container) => Ok((Arc::clone(engine), container.id)),
            None => {
                let message =
                    format!("daemon {id:?} of deployment {deployment:?} is not running: no program can run beside it");
                Err(Report::new("DAEMON_NOT_RUNNING", message).status(409).hint("`alien status` says how it is"))
            }
        }
    }

    /// The check of `cpu` and `memory`: a warning for each that the engine says it cannot hold.
    fn limits(stack: &Stack, engine: &Engine, can: engine::Traits) -> Check {
        type Asks = fn(&Daemon) -> bool;
        let kinds: [(&str, Asks, bool); 2] =
            [("cpu", |daemon| daemon.cpu.is_some(), can.cpu), ("memory", |daemon| daemon.memory.is_some(), can.memory)];
        let mut status = Status::Skipped;
        let mut issues = Vec::new();
        for (field, asks, can) in kinds {
            for daemon in stack.daemons().filter(|daemon| asks(daemon)) {
                if can {
                    status = if status == Status::Skipped { Status::Passed } else { status };
                    continue;
                }
                status = Status::Warning;
                let path = ["resources", &daemon.id, "config", field].map(Into::into).to_vec();
                let says = engine.in_words();
                let message =
                    format!("{field} cannot be limited: {says} says that it cannot here; the daemon runs without it");
                issues.push(Issue::new(path, "custom", message));
            }
        }
        Check { id: "limits-are-enforced", description: "CPU shares and memory limits hold".into(), status, issues }
    }

    /// The check of commands: their manager is a process of ours.
    async fn commands(&self, stack: &Stack) -> Option<Check> {
        let taker = stack.daemons().find(|daemon| daemon.commands_enabled)?;
        if self.local.options.manager.is_some() {
            return None;
        }
        let failed = self.local.machine().await.err();
        let issue = failed.map(|report| {
            let path = ["resources", &taker.id, "config", "commandsEnabled"].map(Into::into).to_vec();
            let message = format!(
                "the manager of commands runs as a process of this machine also beside an engine: {}",
                report.message
            );
            Issue::new(path, "custom", message)
                .hint("name a manager that runs elsewhere (manager, --manager), or leave commandsEnabled out")
        });
        Some(Check {
            id: "local-manager",
            description: "The manager of commands can run here".into(),
            status: if issue.is_none() { Status::Passed } else { Status::Failed },
            issues: issue.into_iter().collect(),
        })
    }
}

#[async_trait]
impl Platform for Containers {
    fn name(&self) -> Name {
        Name::Local
    }

    async fn facts(&self, stack: &Stack) -> Vec<Check> {
        let check = |failure: Option<Report>| {
            let issue =
                failure.map(|report| Issue { hint: report.hint, ..Issue::new(Vec::new(), "custom", report.message) });
            Check {
                id: "local-engine",
                description: "The container engine answers, and the state directory can be used".into(),
                status: if issue.is_none() { Status::Passed } else { Status::Failed },
                issues: issue.into_iter().collect(),
            }
        };
        let ready = async {
            self.local.layout.make()?;
            names::identity(&self.local.layout)?;
            let engine = self.engine().await?;
            self.images_of(engine).await?;
            Ok((engine, engine.traits().await?))
        };
        let (engine, traits) = match ready.await {
            Ok(ready) => ready,
            Err(report) => return vec![check(Some(report))],
        };
        let mut checks = vec![check(None), Containers::limits(stack, engine, traits)];
        checks.extend(self.commands(stack).await);
        checks
    }

    fn locks_first(&self) -> bool {
        true
    }

    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Lock>, Report> {
        self.local.lock(deployment, events).await
    }

    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report> {
        self.observed(deployment).await
    }

    async fn survey(&self, deployment: &str, stack: &Stack, inputs: &Inputs) -> Result<Survey, Report> {
        let observed = self.observed(deployment).await?;
        let engine = self.engine().await?;
        let images = self.images_of(engine).await?;
        let digests = self.local.resolve(images.store(), deployment, stack).await?;
        let desired = self.local.desired(stack, inputs, &digests, &observed)?;
        Ok(Survey { desired, observed })
    }

    async fn begin(&self, deployment: &str, stack: &Stack) -> Result<(), Report> {
        let host = self.engine().await?.host.clone();
        self.local.begin_under(Some(&host), deployment, stack).await
    }

    /// An engine does one thing after the other, and each in its own time.
    fn at_once(&self) -> usize {
        8
    }

    async fn apply(
        &self,
        deployment: &str,
        stack: &Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<(), Report> {
        let local = &self.local;
        let Some((daemon, declared)) = local.declared(deployment, stack, desired, action, events)? else {
            return Ok(());
        };
        if action == Action::Restart {
            return self.with_keeper(deployment, &daemon.id, async |keeper| keeper.restart(action, events).await).await;
        }
        let digest = version::digest(&desired.fields);
        let engine = self.engine().await?;
        let wanted = (daemon.id.as_str(), declared_image(daemon)?, digest);
        let fetched = self.images_of(engine).await?.ensure(engine, wanted, events).await;
        let image = fetched.map_err(|error| error.with("daemon", daemon.id.as_str()))?;
        let mut run = version::spec(&version::Parts {
            layout: &local.layout,
            deployment,
            stack,
            daemon,
            fields: &desired.fields,
            image: &image,
            ids: &local.ids,
            overlay: false,
            commands: local.access(deployment, daemon).await?,
        })?;
        // Nobody of ours is there who could tell of an end: a manager waits for the daemon's leases to run out.
        run.ended = None;
        let document = Document { declared, run: version::stamped(run) };
        self.with_keeper(deployment, &daemon.id, async |keeper| keeper.put(&document, action, events).await).await?;
        local.leave_managers(deployment, &daemon.id, daemon.commands_enabled, events).await
    }

    async fn wait_up(&self, deployment: &str, id: &str, kind: &str) -> Result<(), Report> {
        if kind != "daemon" {
            return Ok(());
        }
        self.with_keeper(deployment, id, async |keeper| keeper.wait_up().await).await
    }

    async fn remove(&self, deployment: &str, id: &str, kind: &str, events: &Events) -> Result<(), Report> {
        if kind == "daemon" {
            self.with_keeper(deployment, id, async |keeper| keeper.remove(events).await).await?;
            return self.local.leave_managers(deployment, id, false, events).await;
        }
        deployment::unstore(&self.local.layout, deployment, id)?;
        events.resource(id, Action::Delete, "removed", None);
        Ok(())
    }

    async fn end(&self, deployment: &str, data: bool) -> Result<(), Report> {
        self.local.end_of(deployment, data).await
    }

    async fn list(&self) -> Result<Vec<String>, Report> {
        self.local.list().await
    }

    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report> {
        self.status_of(deployment).await
    }

    async fn usage(&self, status: &DeploymentStatus) -> BTreeMap<String, Usage> {
        // An engine's pid is that of the container's first process: the init's.
        let running = status.resources.iter().filter_map(|resource| Some((resource.id.clone(), resource.pid?)));
        usage::of(running.collect()).await
    }

    async fn watch(&self, deployment: &str) -> Result<Box<dyn StatusWatch>, Report> {
        Ok(Box::new(watch::Watch::begin(self.clone(), deployment).await?))
    }

    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.existing(deployment, id)?;
        self.with_keeper(deployment, id, async |keeper| keeper.restart(Action::Restart, events).await).await
    }

    async fn rollback(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.existing(deployment, id)?;
        self.with_keeper(deployment, id, async |keeper| keeper.roll_back(events).await).await
    }

    async fn logs(&self, deployment: &str, id: &str, options: LogOptions) -> Result<Box<dyn LogReader>, Report> {
        let dir = self.existing(deployment, id)?;
        if options.previous {
            return Err(super::no_previous_log());
        }
        let engine = Arc::clone(self.engine().await?);
        let state = names::identity(&self.local.layout)?;
        let (deployment, id) = (deployment.to_owned(), id.to_owned());
        Ok(Box::new(logs::open(logs::Whose { engine, state, deployment, id, dir }, options)))
    }

    async fn exec(&self, deployment: &str, id: &str, options: ExecOptions) -> Result<Session, Report> {
        let (engine, container) = self.running(deployment, id).await?;
        exec::exec(engine, &container, &options).await
    }

    async fn images(&self) -> Result<ImageList, Report> {
        Err(keeps_its_own())
    }

    async fn prune(&self, _dry_run: bool) -> Result<PruneReport, Report> {
        Err(keeps_its_own())
    }
}

fn keeps_its_own() -> Report {
    Report::new(
        "NOT_AVAILABLE",
        "a container engine keeps its images itself; those of daemons that are gone have been removed",
    )
    .status(501)
    .hint("`docker image ls localhost/alien` (or podman) shows them; runtime \"process\" has images of its own here")
}
