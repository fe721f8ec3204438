//! This machine as a place of deployments: which runtime one has, and why.
//!
//! A deployment keeps the runtime that it was made with, which its `deployment.json` names; whoever asks for another one is
//! told to destroy it first. To move it would mean two copies for a while, or none, with no way back if the new one does not come up.

use super::containers::{self, Containers, first_of};
use super::{Local, Options, Runtime, deployment};
use crate::engine::doctor::Checkup;
use crate::engine::event::Events;
use crate::engine::exec::{self, Session};
use crate::engine::images::{ImageList, PruneReport};
use crate::engine::logs::{self, LogReader};
use crate::engine::plan::{Action, Desired, Observed};
use crate::engine::platform::{Inputs, Lock, Platform, StatusWatch, Survey};
use crate::engine::startup::{Request, Startup};
use crate::engine::status::{DeploymentStatus, Usage};
use crate::engine::vault::Change as VaultChange;
use crate::error::{Issue, Report};
use crate::model::{Platform as Name, Stack};
use crate::preflight::{Check, Status};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Local, whatever its daemons run under. An instance is about one deployment.
pub struct Place {
    local: Arc<Local>,
    /// The deployment, where it is known before it is named by a call.
    deployment: Option<String>,
    chosen: OnceCell<Chosen>,
}

/// A runtime, and why it is that one.
struct Chosen {
    runner: Runner,
    why: String,
    /// Why it is not what would have been chosen else.
    instead: Option<Report>,
}

enum Runner {
    Process(Arc<Local>),
    Engine(Containers),
}

impl Runner {
    fn platform(&self) -> &dyn Platform {
        match self {
            Runner::Process(local) => local.as_ref(),
            Runner::Engine(containers) => containers,
        }
    }
}

impl Place {
    /// Nothing is touched yet.
    pub fn new(options: Options, deployment: Option<String>) -> Place {
        Place { local: Arc::new(Local::new(options)), deployment, chosen: OnceCell::new() }
    }

    /// The runtime of a deployment that is looked at, or ended: one that is not there has none.
    async fn of(&self, deployment: &str) -> Result<&dyn Platform, Report> {
        let recorded = async || {
            Ok::<_, Report>(self.recorded(deployment).unwrap_or_else(|| match self.local.options.runtime {
                Runtime::Engine => self.engine(None, String::new()),
                _ => self.process(String::new()),
            }))
        };
        Ok(self.chosen.get_or_try_init(recorded).await?.runner.platform())
    }

    /// The runtime of a deployment that is to be made or changed.
    async fn for_change(&self, deployment: &str) -> Result<&Chosen, Report> {
        let choose = || async {
            match self.recorded(deployment) {
                Some(recorded) => Ok(recorded),
                None => self.choose().await,
            }
        };
        self.chosen.get_or_try_init(choose).await
    }

    fn process(&self, why: String) -> Chosen {
        Chosen { runner: Runner::Process(Arc::clone(&self.local)), why, instead: None }
    }

    fn engine(&self, host: Option<String>, why: String) -> Chosen {
        Chosen { runner: Runner::Engine(Containers::new(Arc::clone(&self.local), host)), why, instead: None }
    }

    fn recorded(&self, deployment: &str) -> Option<Chosen> {
        let meta = deployment::meta(&self.local.layout, deployment)?;
        let why = "the deployment was made so".to_owned();
        Some(match meta.engine {
            Some(host) => self.engine(Some(host), why),
            None => self.process(why),
        })
    }

    async fn choose(&self) -> Result<Chosen, Report> {
        let options = &self.local.options;
        match options.runtime {
            Runtime::Process => Ok(self.process("runtime \"process\" was asked for".to_owned())),
            Runtime::Engine => {
                let containers = Containers::with(Arc::clone(&self.local), first_of(&options.engines).await?);
                let why = "runtime \"engine\" was asked for".to_owned();
                Ok(Chosen { runner: Runner::Engine(containers), why, instead: None })
            }
            Runtime::Auto => match self.local.machine().await {
                Err(refusal) if refusal.code == "SANDBOX_REFUSED" => match first_of(&options.engines).await {
                    Ok(engine) => {
                        let containers = Containers::with(Arc::clone(&self.local), engine);
                        let (why, instead) = (refusal.message.clone(), Some(refusal));
                        Ok(Chosen { runner: Runner::Engine(containers), why, instead })
                    }
                    Err(_) => Ok(self.process(String::new())),
                },
                // What else is wrong is told among the facts.
                _ => Ok(self.process("this machine can make sandboxes".to_owned())),
            },
        }
    }

    /// The engine that daemons run under because this machine refuses to make sandboxes, where none has run in one.
    async fn instead(&self) -> Option<String> {
        let layout = &self.local.layout;
        let is_under_one = |name: &String| deployment::meta(layout, name).is_some_and(|meta| meta.engine.is_some());
        if !deployment::names(layout).iter().all(is_under_one) {
            return None;
        }
        match self.choose().await.ok()?.runner {
            Runner::Engine(containers) => containers.engine().await.ok().map(|engine| engine.in_words()),
            Runner::Process(_) => None,
        }
    }

    /// Which runtime it is, and why.
    async fn describe(&self, deployment: &str, chosen: &Chosen) -> Check {
        let Chosen { runner, why, instead } = chosen;
        let what = match runner {
            Runner::Process(_) => "Daemons run as processes of this machine".to_owned(),
            Runner::Engine(containers) => match containers.engine().await {
                Ok(engine) => format!("Daemons run under {}", engine.in_words()),
                Err(_) => "Daemons run under a container engine".to_owned(),
            },
        };
        let wanted = self.local.options.runtime;
        let issue = match (runner, wanted) {
            (Runner::Process(_), Runtime::Engine) => Some(("as processes of this machine", "engine")),
            (Runner::Engine(_), Runtime::Process) => Some(("under a container engine", "process")),
            _ => None,
        };
        let issue = issue.map(|(has, asked)| {
            let message = format!("deployment {deployment:?} runs {has}, and runtime {asked:?} was asked for");
            Issue::new(Vec::new(), "custom", message)
                .hint("destroy it first, which leaves what it has stored, or leave the runtime out")
        });
        let (status, issue) = match (issue, instead) {
            (Some(issue), _) => (Status::Failed, Some(issue)),
            // Nobody has asked for it: who deploys shall know.
            (None, Some(refusal)) => {
                let issue = Issue::new(
                    Vec::new(),
                    "custom",
                    format!("{}; {what} instead", refusal.message, what = lower(&what)),
                );
                (Status::Warning, Some(Issue { hint: refusal.hint.clone(), ..issue }))
            }
            (None, None) => (Status::Passed, None),
        };
        let description = if why.is_empty() { what } else { format!("{what}: {why}") };
        Check { id: "local-runtime", description: description.into(), status, issues: issue.into_iter().collect() }
    }
}

/// A sentence as a part of another one.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[async_trait]
impl Platform for Place {
    fn name(&self) -> Name {
        Name::Local
    }

    async fn facts(&self, stack: &Stack) -> Vec<Check> {
        let name = self.deployment.as_deref().unwrap_or(&stack.id);
        let chosen = match self.for_change(name).await {
            Ok(chosen) => chosen,
            Err(report) => {
                let issue = Issue { hint: report.hint, ..Issue::new(Vec::new(), "custom", report.message) };
                let description = "Daemons run under a container engine: runtime \"engine\" was asked for".into();
                return vec![Check { id: "local-runtime", description, status: Status::Failed, issues: vec![issue] }];
            }
        };
        let mut checks = vec![self.describe(name, chosen).await];
        checks.extend(chosen.runner.platform().facts(stack).await);
        let is_refused = |check: &&mut Check| check.id == "local-sandbox" && check.status == Status::Failed;
        if self.local.options.runtime == Runtime::Auto
            && let Some(issue) = checks.iter_mut().find(is_refused).and_then(|check| check.issues.first_mut())
        {
            let engine = "start Docker or Podman, which daemons then run under";
            issue.hint = Some(issue.hint.take().map_or(engine.to_owned(), |hint| format!("{hint}; or {engine}")));
        }
        checks
    }

    fn locks_first(&self) -> bool {
        true
    }

    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Lock>, Report> {
        self.local.lock(deployment, events).await
    }

    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report> {
        self.of(deployment).await?.observe(deployment).await
    }

    async fn survey(&self, deployment: &str, stack: &Stack, inputs: &Inputs) -> Result<Survey, Report> {
        self.for_change(deployment).await?.runner.platform().survey(deployment, stack, inputs).await
    }

    async fn begin(&self, deployment: &str, stack: &Stack) -> Result<(), Report> {
        self.for_change(deployment).await?.runner.platform().begin(deployment, stack).await
    }

    async fn apply(
        &self,
        deployment: &str,
        stack: &Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<(), Report> {
        let platform = self.for_change(deployment).await?.runner.platform();
        platform.apply(deployment, stack, desired, action, events).await
    }

    fn at_once(&self) -> usize {
        self.chosen.get().map_or(32, |chosen| chosen.runner.platform().at_once())
    }

    async fn wait_up(&self, deployment: &str, id: &str, kind: &str) -> Result<(), Report> {
        self.of(deployment).await?.wait_up(deployment, id, kind).await
    }

    async fn remove(&self, deployment: &str, id: &str, kind: &str, events: &Events) -> Result<(), Report> {
        self.of(deployment).await?.remove(deployment, id, kind, events).await
    }

    async fn end(&self, deployment: &str, data: bool) -> Result<(), Report> {
        self.of(deployment).await?.end(deployment, data).await
    }

    async fn list(&self) -> Result<Vec<String>, Report> {
        self.local.list().await
    }

    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report> {
        self.of(deployment).await?.status(deployment).await
    }

    async fn usage(&self, status: &DeploymentStatus) -> BTreeMap<String, Usage> {
        match self.of(&status.name).await {
            Ok(platform) => platform.usage(status).await,
            Err(_) => BTreeMap::new(),
        }
    }

    async fn watch(&self, deployment: &str) -> Result<Box<dyn StatusWatch>, Report> {
        self.of(deployment).await?.watch(deployment).await
    }

    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.of(deployment).await?.restart(deployment, id, events).await
    }

    async fn rollback(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        self.of(deployment).await?.rollback(deployment, id, events).await
    }

    async fn logs(&self, deployment: &str, id: &str, options: logs::Options) -> Result<Box<dyn LogReader>, Report> {
        self.of(deployment).await?.logs(deployment, id, options).await
    }

    async fn exec(&self, deployment: &str, id: &str, options: exec::Options) -> Result<Session, Report> {
        self.of(deployment).await?.exec(deployment, id, options).await
    }

    async fn change_vault(&self, deployment: &str, id: &str, change: &VaultChange) -> Result<Vec<String>, Report> {
        self.local.change_vault(deployment, id, change).await
    }

    async fn doctor(&self, dry_run: bool) -> Result<Checkup, Report> {
        let mut checkup = self.local.doctor(dry_run).await?;
        if let Some(check) = checkup.checks.iter_mut().find(|check| check.id == "sandbox")
            && check.status == Status::Failed
            && let Some(engine) = self.instead().await
        {
            check.status = Status::Warning;
            check.issues.iter_mut().for_each(|issue| issue.hint = Some(format!("daemons run under {engine} instead")));
        }
        Ok(checkup.and(containers::doctor(&self.local, dry_run).await))
    }

    async fn startup(&self, request: &Request) -> Result<Startup, Report> {
        self.local.startup(request).await
    }

    async fn images(&self) -> Result<ImageList, Report> {
        match self.local.options.runtime {
            Runtime::Engine => Containers::new(Arc::clone(&self.local), None).images().await,
            _ => self.local.images().await,
        }
    }

    async fn prune(&self, dry_run: bool) -> Result<PruneReport, Report> {
        match self.local.options.runtime {
            Runtime::Engine => Containers::new(Arc::clone(&self.local), None).prune(dry_run).await,
            _ => self.local.prune(dry_run).await,
        }
    }
}
