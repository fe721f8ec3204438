//! Bringing one daemon up, to another version, or away, by way of its folder and its containers.
//!
//! ```text
//! deployments/<name>/containers/<id>/
//!     spec.json           the version that is to run, as it was asked for; its secrets too, hence mode 0600
//!     next.json           the version that an update is bringing up
//!     previous.json       the version that ran before
//!     rolled-back.json    the update that was taken back, if the last one was
//!     never-up            until a first version has been up: it is nothing to go back to
//! ```
//!
//! Each version has a container of its own, which its label names. The one of `spec.json` is to run, and any other is what
//! an interrupted change has left: whoever holds the deployment's lock removes it. An update makes the new container
//! before it stops the old one, and keeps that until the new one is up.

use super::engine::{Engine, Kind, status as status_of};
use super::found::{self, Container};
use super::images::Images;
use super::names::Names;
use crate::engine::event::Events;
use crate::engine::failure;
use crate::engine::plan::Action;
use crate::error::Report;
use crate::local::layout::{Layout, unusable};
use crate::local::version::Document;
use crate::supervisor::spec::{self, CURRENT, NEXT, PREVIOUS, Spec};
use bollard::errors::Error;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions, StartContainerOptions, StopContainerOptions};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Says which update was taken back.
pub const ROLLED_BACK: &str = "rolled-back.json";
/// Says that no version has been up yet.
const NEVER_UP: &str = "never-up";
/// Between two looks at a container.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// How long a program may take to begin, on an engine that has much to do.
pub(super) const BEGIN: Duration = Duration::from_secs(60);

/// One daemon, and the means to change it.
pub struct Keeper<'a> {
    pub layout: &'a Layout,
    pub engine: &'a Engine,
    pub images: &'a Images,
    /// What the engine is to carry out to its end.
    pub calls: &'a TaskTracker,
    pub names: Names<'a>,
}

impl Keeper<'_> {
    pub(super) fn dir(&self) -> PathBuf {
        self.layout.containers(self.names.deployment).join(self.names.id)
    }

    fn read(&self, file: &str) -> Option<Document> {
        spec::read(&self.dir().join(file)).ok()
    }

    pub(super) async fn containers(&self) -> Result<Vec<Container>, Report> {
        found::all(self.engine, self.names.filters()).await
    }

    /// Makes the daemon run this version, and returns once it is up.
    ///
    /// # Errors
    /// `DAEMON_NOT_UP` where it ends by itself and no version has been up yet: it is left crash-looping. `UPDATE_ROLLED_BACK`
    /// where one has: the last that was runs again. What the image lacks (program, user) by its own code; nothing has
    /// changed then, and a first version is gone again.
    pub async fn put(&self, document: &Document, action: Action, events: &Events) -> Result<(), Report> {
        let result = match self.read(CURRENT) {
            Some(current) => self.update(&current, document, action, events).await,
            None => self.create(document, action, events).await,
        };
        result.map_err(|error| error.with("daemon", self.names.id).with("image", document.run.image.as_str()))
    }

    async fn create(&self, document: &Document, action: Action, events: &Events) -> Result<(), Report> {
        let dir = self.dir();
        let begin = || fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(NEVER_UP), ""));
        begin().map_err(|error| unusable(&dir, &error))?;
        spec::write(&dir.join(CURRENT), document).map_err(|error| unusable(&dir, &error))?;
        events.resource(self.names.id, action, "starting", None);
        match self.bring_up(&document.run).await {
            Err(error) if cannot_ever_run(&error.code) => {
                self.remove(&Events::ignored()).await?;
                Err(error)
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.note_up();
                events.resource(self.names.id, action, "running", None);
                Ok(())
            }
        }
    }

    /// Notes that the version that is to run has been up.
    pub(super) fn note_up(&self) {
        let _ = fs::remove_file(self.dir().join(NEVER_UP));
    }

    /// Whether a version has been up, also one that came up when nobody waited for it any more.
    pub(super) async fn has_been_up(&self, run: &Spec) -> Result<bool, Report> {
        if !self.dir().join(NEVER_UP).exists() {
            return Ok(true);
        }
        let is_up =
            |there: &Container| there.version() == run.version && there.runs() && there.unsettled(run).is_zero();
        Ok(self.containers().await?.iter().any(is_up))
    }

    /// Starts a version that nothing has to give way to.
    async fn bring_up(&self, run: &Spec) -> Result<(), Report> {
        self.clear(None).await?;
        let id = self.make(run).await?;
        self.start(run, &id).await?;
        self.until_up(run, &id, 0).await.map_err(|end| self.not_up(end))
    }

    /// Starts the container of a version that was stopped; makes it where there is none.
    pub(super) async fn again(&self, run: &Spec) -> Result<String, Report> {
        let there = self.containers().await?.into_iter().find(|container| container.version() == run.version);
        let id = match there {
            Some(container) => container.id,
            None => self.make(run).await?,
        };
        self.start(run, &id).await?;
        Ok(id)
    }

    /// Stops the daemon and starts it again.
    pub async fn restart(&self, action: Action, events: &Events) -> Result<(), Report> {
        let Names { deployment, id, .. } = self.names;
        let document = self.read(CURRENT).ok_or_else(|| failure::no_daemon(deployment, id, &[]))?;
        let run = &document.run;
        self.clear(Some(&run.version)).await?;
        let leaving = self.digests(&[NEXT]);
        let _ = fs::remove_file(self.dir().join(NEXT));
        self.drop_images(&leaving).await;
        events.resource(id, action, "restarting", None);
        for container in self.containers().await? {
            self.halt(&container, run).await?;
        }
        let container = self.again(run).await?;
        self.until_up(run, &container, 0)
            .await
            .map_err(|end| self.not_up(end).with("daemon", id).with("image", run.image.as_str()))?;
        self.note_up();
        events.resource(id, action, "running", None);
        Ok(())
    }

    /// Makes the daemon run the version that ran before this one, and returns once it is up.
    ///
    /// # Errors
    /// `NO_PREVIOUS_VERSION`, and those of [`Keeper::put`].
    pub async fn roll_back(&self, events: &Events) -> Result<(), Report> {
        let Names { deployment, id, .. } = self.names;
        let current = self.read(CURRENT).ok_or_else(|| failure::no_daemon(deployment, id, &[]))?;
        match self.read(PREVIOUS).filter(|previous| previous.run.version != current.run.version) {
            Some(previous) => self.put(&previous, Action::Update, events).await,
            None => {
                let message = format!("daemon {id:?} has no version from before to go back to");
                Err(Report::new("NO_PREVIOUS_VERSION", message).status(409).with("daemon", id))
            }
        }
    }

    /// Returns once the daemon, which runs as it should, counts as up.
    pub async fn wait_up(&self) -> Result<(), Report> {
        let Some(document) = self.read(CURRENT) else { return Ok(()) };
        let container = self.containers().await?.into_iter().find(|there| there.version() == document.run.version);
        let Some(container) = container else { return Ok(()) };
        let up = self.until_up(&document.run, &container.id, container.restart_count).await;
        up.map_err(|end| self.not_up(end).with("daemon", self.names.id))?;
        self.note_up();
        Ok(())
    }

    /// Stops the daemon and removes what there is of it; returns once it is gone.
    pub async fn remove(&self, events: &Events) -> Result<(), Report> {
        let dir = self.dir();
        let containers = self.containers().await?;
        if containers.is_empty() && !dir.exists() {
            return Ok(());
        }
        events.resource(self.names.id, Action::Delete, "stopping", None);
        let documents = [CURRENT, NEXT, PREVIOUS].map(|file| self.read(file));
        let digests: Vec<String> = documents.iter().flatten().map(|document| document.run.digest.clone()).collect();
        let grace = documents.iter().flatten().map(|document| document.run.stop_grace_ms).max().unwrap_or_default();
        for container in containers {
            self.stop(&container, Duration::from_millis(grace)).await?;
            self.remove_container(&container.id).await?;
        }
        self.remove_volumes().await?;
        fs::remove_dir_all(&dir).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(unusable(&dir, &error)),
        })?;
        self.drop_images(&digests).await;
        events.resource(self.names.id, Action::Delete, "removed", None);
        Ok(())
    }

    /// The images of versions.
    pub(super) fn digests(&self, files: &[&str]) -> Vec<String> {
        files.iter().filter_map(|file| self.read(file)).map(|document| document.run.digest).collect()
    }

    /// Takes out of the engine those of them that only versions had which are not kept any more.
    pub(super) async fn drop_images(&self, digests: &[String]) {
        for digest in digests {
            self.images.drop_unused(self.engine, self.layout, digest).await;
        }
    }

    /// Volumes are over folders of ours, which stay: the engine only forgets them.
    async fn remove_volumes(&self) -> Result<(), Report> {
        let options = ListVolumesOptions { filters: Some(self.names.filters()) };
        let listed = self.engine.ask("list its volumes", self.engine.docker.list_volumes(Some(options))).await?;
        for volume in listed.volumes.unwrap_or_default() {
            let call = self.engine.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>);
            self.engine.find(&format!("forget the volume {}", volume.name), call).await?;
        }
        Ok(())
    }

    /// Removes all containers of the daemon but that of a version. Whatever else there is, an interrupted change has left.
    pub(super) async fn clear(&self, version: Option<&str>) -> Result<(), Report> {
        let mut kept = false;
        for container in self.containers().await? {
            if version == Some(container.version()) && !kept {
                kept = true;
                continue;
            }
            self.remove_container(&container.id).await?;
        }
        Ok(())
    }

    pub(super) async fn start(&self, run: &Spec, id: &str) -> Result<(), Report> {
        let call = self.engine.docker.start_container(id, None::<StartContainerOptions>);
        match self.engine.try_to(call).await {
            Ok(()) => Ok(()),
            Err(error) => Err(could_not_start(run, self.engine.report("start a container", &error))),
        }
    }

    /// Stops a container, which may be started again.
    pub(super) async fn halt(&self, container: &Container, run: &Spec) -> Result<(), Report> {
        let stopped = self.stop(container, Duration::from_millis(run.stop_grace_ms)).await?;
        // Podman does not note that one is to stop which is just between two runs, and starts it again.
        if !stopped && self.engine.kind == Kind::Podman {
            let now = found::inspect(self.engine, &container.id).await?;
            if now.is_some_and(|now| now.runs() || now.is_between_runs()) {
                self.remove_container(&container.id).await?;
            }
        }
        Ok(())
    }

    /// Gives false where it did not run.
    async fn stop(&self, container: &Container, grace: Duration) -> Result<bool, Report> {
        if container.state.paused {
            let call = self.engine.docker.unpause_container(&container.id);
            self.engine.find("let a container go on", call).await?;
        }
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..StopContainerOptions::default() };
        let docker = self.engine.patient(grace);
        let call = async {
            let patience = docker.timeout();
            let stopping = docker.stop_container(&container.id, Some(options));
            tokio::time::timeout(patience, stopping).await.unwrap_or(Err(Error::RequestTimeoutError))
        };
        match call.await {
            Ok(()) => Ok(true),
            Err(error) if matches!(status_of(&error), Some(304 | 404)) => Ok(false),
            Err(error) => Err(self.engine.report("stop a container", &error)),
        }
    }
}

/// What an engine says of an image that cannot be run, by the codes that it has everywhere.
fn could_not_start(run: &Spec, report: Report) -> Report {
    let said = report.message.as_str();
    let code = if said.contains("unable to find user") || said.contains("unable to find group") {
        "IMAGE_USER_UNKNOWN"
    } else if said.contains("executable file not found") || said.contains("exec:") && said.contains("no such file") {
        "ENTRYPOINT_MISSING"
    } else if said.contains("exec:") && said.contains("permission denied") {
        "ENTRYPOINT_NOT_EXECUTABLE"
    } else {
        return report;
    };
    Report { code: code.to_owned(), ..report }.with("image", run.image.as_str())
}

/// Whether trying again could not help, because the image itself lacks what is asked for.
fn cannot_ever_run(code: &str) -> bool {
    matches!(
        code,
        "ENTRYPOINT_MISSING"
            | "ENTRYPOINT_NOT_EXECUTABLE"
            | "IMAGE_USER_UNKNOWN"
            | "CONTAINER_NAME_TAKEN"
            | "ENGINE_INIT_MISSING"
    )
}
