//! What `alien doctor` looks at where deployments run under a container engine: whether it answers, whether their daemons
//! are up there, and what is left in it that no deployment has.

use super::Containers;
use super::engine::Engine;
use super::found;
use super::names::{STATE, filters, known_identity};
use crate::engine::doctor::Checkup;
use crate::engine::event::Events;
use crate::engine::platform::Platform;
use crate::engine::status::State;
use crate::error::{Issue, Report};
use crate::local::doctor::{ailing, issue, locked, reported};
use crate::local::{Local, deployment};
use crate::preflight::{Check, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Visits the engines that deployments have, and those that others may have had which are gone. With a dry run it only says
/// what it would do.
pub async fn visit(local: &Arc<Local>, dry_run: bool) -> Checkup {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in deployment::names(&local.layout) {
        if let Some(host) = deployment::meta(&local.layout, &name).and_then(|meta| meta.engine) {
            hosts.entry(host).or_default().push(name);
        }
    }
    let is_any = !hosts.is_empty();
    if known_identity(&local.layout).is_some() {
        for host in &local.options.engines {
            hosts.entry(host.clone()).or_default();
        }
    }
    let (mut silent, mut down, mut mended) = (Vec::new(), Vec::new(), Vec::new());
    for (host, names) in hosts {
        let containers = match Engine::connect(&host).await {
            Ok(engine) => Containers::with(Arc::clone(local), engine),
            Err(report) if !names.is_empty() => {
                let message = format!("{}: {}", names.join(", "), report.message);
                silent.push(issue(message, report.hint.as_deref()));
                continue;
            }
            // Nothing is known to be there.
            Err(_) => continue,
        };
        for name in &names {
            match containers.ailing(name).await {
                Ok(issues) => down.extend(issues),
                Err(report) => silent.push(reported(report)),
            }
        }
        match containers.clear_up(dry_run, &mut mended).await {
            Ok(issues) => down.extend(issues),
            Err(report) => silent.push(reported(report)),
        }
    }
    let check = |id, description: &'static str, bad, issues: Vec<Issue>| Check {
        id,
        description: description.into(),
        status: if issues.is_empty() { Status::Passed } else { bad },
        issues,
    };
    let mut checks = vec![
        check("engines", "Container engines that deployments have answer", Status::Failed, silent),
        check("containers", "Every daemon under a container engine is up", Status::Warning, down),
    ];
    checks.retain(|check| is_any || check.status != Status::Passed);
    Checkup::new(checks, mended)
}

impl Containers {
    /// What the owner of a deployment's daemons should know about them.
    async fn ailing(&self, name: &str) -> Result<Vec<Issue>, Report> {
        let resources = self.status(name).await?.resources;
        let down = resources.iter().filter(|resource| {
            matches!(resource.state, State::CrashLooping | State::Failed | State::Stopped | State::Pending)
        });
        Ok(down.map(|resource| ailing(&format!("{name}/{}", resource.id), resource)).collect())
    }

    /// Removes containers that no deployment has and that have never run: a deploy asked for them and was killed, and a
    /// destroy came before the engine had made them. Those that have run somebody may want to look at.
    async fn clear_up(&self, dry_run: bool, mended: &mut Vec<String>) -> Result<Vec<Issue>, Report> {
        let engine = self.engine().await?;
        let layout = &self.local.layout;
        let Some(state) = known_identity(layout) else { return Ok(Vec::new()) };
        let mut issues = Vec::new();
        for container in found::all(engine, filters(&[(STATE, &state)])).await? {
            let (name, id) = (container.deployment(), container.daemon());
            // Whoever is changing it sees to it.
            if self.dir(name, id).exists() || locked(&layout.deployment(name)).is_none() {
                continue;
            }
            if !container.never_started() {
                let message =
                    format!("{name}/{id}: {} has a container of it, and there is no deployment", engine.in_words());
                issues
                    .push(issue(message, Some(&format!("if it is not wanted, remove it there: {:.12}", container.id))));
                continue;
            }
            mended.push(format!("{name}/{id}: a call that was killed had left a container in {}", engine.in_words()));
            if dry_run {
                continue;
            }
            let _lock = deployment::lock(layout, name, &Events::ignored()).await?;
            if !self.dir(name, id).exists() {
                self.with_keeper(name, id, async |keeper| keeper.remove(&Events::ignored()).await).await?;
            }
        }
        Ok(issues)
    }
}
