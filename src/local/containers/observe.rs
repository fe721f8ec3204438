//! What there is of a deployment whose daemons run under an engine, and how it is.

use super::Containers;
use super::engine::Engine;
use super::found::{self, Container};
use super::keeper::ROLLED_BACK;
use super::names::{DEPLOYMENT, STATE, filters, known_identity};
use crate::engine::plan::Observed;
use crate::engine::status::{Condition, DeploymentStatus, ResourceStatus, State, sort_as};
use crate::error::Report;
use crate::local::deployment::{self, Meta};
use crate::local::observe::{not_found, show};
use crate::local::version::Document;
use crate::supervisor::protocol::{ExitStatus, Phase, Status};
use crate::supervisor::spec::{self, CURRENT};
use std::collections::{BTreeMap, BTreeSet};

/// A daemon as it is found.
struct Found {
    id: String,
    document: Option<Document>,
    /// Its containers, those of other versions too.
    containers: Vec<Container>,
}

impl Found {
    fn container(&self) -> Option<&Container> {
        let version = self.document.as_ref().map(|document| document.run.version.as_str());
        self.containers.iter().find(|container| Some(container.version()) == version)
    }
}

/// How a daemon is, as far as it can be told.
enum How {
    Told(Box<Status>),
    /// Nothing runs, and nothing will by itself: state, reason and what is so.
    Still(State, &'static str, &'static str),
}

impl Containers {
    /// The daemons of a deployment: those that were asked for, and those that have containers.
    async fn daemons(&self, engine: &Engine, name: &str) -> Result<Vec<Found>, Report> {
        let mut containers: BTreeMap<String, Vec<Container>> = BTreeMap::new();
        if let Some(state) = known_identity(&self.local.layout) {
            for container in found::all(engine, filters(&[(STATE, &state), (DEPLOYMENT, name)])).await? {
                containers.entry(container.daemon().to_owned()).or_default().push(container);
            }
        }
        let declared = deployment::entry_names(&self.local.layout.containers(name));
        let ids: BTreeSet<String> = declared.into_iter().chain(containers.keys().cloned()).collect();
        Ok(ids
            .into_iter()
            .map(|id| Found {
                document: spec::read(&self.dir(name, &id).join(CURRENT)).ok(),
                containers: containers.remove(&id).unwrap_or_default(),
                id,
            })
            .collect())
    }

    async fn how(&self, engine: &Engine, name: &str, found: &Found) -> Result<How, Report> {
        let Some(document) = &found.document else {
            return Ok(How::Still(State::Failed, "SpecMissing", "its spec.json is gone; deploy again to make it anew"));
        };
        let Some(container) = found.container() else {
            return Ok(How::Still(
                State::Failed,
                "ContainerMissing",
                "its container is gone; deploy again to make it anew",
            ));
        };
        if container.state.paused {
            return Ok(How::Still(
                State::Stopped,
                "ContainerPaused",
                "its container is paused; deploy again to start it",
            ));
        }
        if !container.runs() && !found::is_about_to_restart(engine, container) {
            return Ok(if container.never_started() {
                How::Still(State::Pending, "ContainerCreated", "its container has not been started")
            } else {
                How::Still(State::Stopped, "ContainerStopped", "its container was stopped; deploy again to start it")
            });
        }
        let rolled_back = spec::read(&self.dir(name, &found.id).join(ROLLED_BACK)).ok();
        Ok(How::Told(Box::new(found::status(engine, &document.run, container, rolled_back).await?)))
    }

    /// Every resource with the fields that it was made from.
    pub(super) async fn observed(&self, name: &str) -> Result<Vec<Observed>, Report> {
        let mut observed = Vec::new();
        // A deployment that there is nothing of is asked about before any engine is known.
        if self.has_something(name) {
            let engine = self.engine().await?;
            for found in self.daemons(engine, name).await? {
                let unhealthy = match self.how(engine, name, &found).await? {
                    How::Still(_, _, message) => Some(message.split(';').next().unwrap_or_default().to_owned()),
                    How::Told(status) if status.state == Phase::CrashLooping => {
                        let how = status.last_exit.as_ref().map_or("a failed start".to_owned(), ExitStatus::in_words);
                        Some(format!("it is crash-looping, last after {how}"))
                    }
                    How::Told(_) if found.containers.len() > 1 => {
                        Some("a change of it was interrupted, and has left a second container".to_owned())
                    }
                    How::Told(_) => None,
                };
                let fields = found.document.map(|document| document.declared.fields).unwrap_or_default();
                observed.push(Observed { id: found.id, kind: "daemon".to_owned(), fields, unhealthy });
            }
        }
        let stored = deployment::stored(&self.local.layout, name).into_iter();
        observed.extend(stored.map(|(id, stored)| Observed {
            id,
            kind: stored.kind,
            fields: stored.declared.fields,
            unhealthy: None,
        }));
        Ok(observed)
    }

    fn has_something(&self, name: &str) -> bool {
        deployment::meta(&self.local.layout, name).is_some() || known_identity(&self.local.layout).is_some()
    }

    /// How every resource is, in the order of the stack.
    pub(super) async fn status_of(&self, name: &str) -> Result<DeploymentStatus, Report> {
        let layout = &self.local.layout;
        let Some(Meta { stack_id, order, .. }) = deployment::meta(layout, name) else {
            return Err(not_found(layout, name));
        };
        let engine = self.engine().await?;
        let mut resources = Vec::new();
        for found in self.daemons(engine, name).await? {
            let how = self.how(engine, name, &found).await?;
            let (lifecycle, run) = match found.document {
                Some(document) => (document.declared.lifecycle, Some(document.run)),
                None => ("live".to_owned(), None),
            };
            let mut resource = ResourceStatus::new(found.id, "daemon", lifecycle, State::Failed);
            match how {
                How::Told(status) => show(&mut resource, *status),
                How::Still(state, reason, message) => {
                    resource.state = state;
                    resource.image = run.as_ref().map(|run| run.image.clone());
                    resource.digest = run.map(|run| run.digest);
                    resource.conditions.push(Condition::new("Ready", false, reason, message));
                }
            }
            resources.push(resource);
        }
        let stored = deployment::stored(layout, name).into_iter();
        resources.extend(
            stored.map(|(id, stored)| ResourceStatus::new(id, &stored.kind, stored.declared.lifecycle, State::Running)),
        );
        sort_as(&mut resources, order.iter().map(String::as_str));
        Ok(DeploymentStatus { name: name.to_owned(), platform: "local", stack_id, resources })
    }
}
