//! Making a version's container, and taking it away again.

use super::body::{body, prepare};
use super::engine::status as status_of;
use super::found;
use super::keeper::{BEGIN, Keeper, LOOK};
use super::names::image;
use crate::error::Report;
use crate::supervisor::spec::Spec;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use std::time::Instant;

impl Keeper<'_> {
    /// Makes the container of a version; gives its id. It is not started.
    pub(super) async fn make(&self, run: &Spec) -> Result<String, Report> {
        prepare(self.engine, &self.names, run).await?;
        let name = self.names.container(&run.version);
        let doing = format!("make the container {name}");
        let begun = Instant::now();
        let mut again = true;
        loop {
            let body = body(&self.names, run, &image(&run.digest), self.engine.kind)?;
            let error = match self.make_whole(&name, body).await {
                Ok(id) => return Ok(id),
                Err(error) => error,
            };
            let said = error.to_string();
            match status_of(&error) {
                // Somebody has cleared up images.
                Some(404) if again && !said.contains("volume") => {
                    again = false;
                    let what = (self.names.id, run.image.as_str(), run.digest.as_str());
                    self.images.ensure_again(self.engine, what).await?;
                }
                Some(409) | Some(500) if said.contains("already in use") => self.free(&name, begun).await?,
                _ if said.contains("container-init binary not found") => {
                    let message = format!("{} has no init for containers: {said}", self.engine.in_words());
                    return Err(Report::new("ENGINE_INIT_MISSING", message)
                        .hint("install what is process 1 of its containers: sudo apt install catatonit"));
                }
                _ => return Err(self.engine.report(&doing, &error)),
            }
        }
    }

    /// Makes a container, and gives its id. The engine may do so as well where the deploy is called off meanwhile, and tells of
    /// no container until it has: whoever has the lock next waits for that.
    async fn make_whole(&self, name: &str, body: ContainerCreateBody) -> Result<String, Error> {
        let engine = self.engine.clone();
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let making = async move { engine.try_to(engine.docker.create_container(Some(options), body)).await };
        self.calls.spawn(making).await.unwrap_or(Err(Error::RequestTimeoutError)).map(|made| made.id)
    }

    /// Makes way for the container of this name, where it is one of ours that has it: of a deploy that was killed, whose
    /// last call the engine still carries out.
    async fn free(&self, name: &str, since: Instant) -> Result<(), Report> {
        let holder = found::inspect(self.engine, name).await?;
        let what = match holder {
            Some(holder) if holder.is_of(&self.names) => return self.remove_container(&holder.id).await,
            Some(_) => "a container called",
            None if since.elapsed() < BEGIN => {
                tokio::time::sleep(LOOK).await;
                return Ok(());
            }
            None => "something that is no container and is called",
        };
        let message =
            format!("the container engine at {} has {what} {name}, which is not one of ours", self.engine.host);
        Err(Report::new("CONTAINER_NAME_TAKEN", message)
            .status(409)
            .with("container", name)
            .hint("rename or remove it: it is never touched from here"))
    }

    /// Removes a container, whether it runs or not; returns once it is gone.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Report> {
        let options = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
        let removed = self.engine.try_to(self.engine.docker.remove_container(id, Some(options))).await;
        match removed {
            Ok(()) => Ok(()),
            Err(error) if status_of(&error) == Some(404) => Ok(()),
            // Somebody else removes it at this moment.
            Err(error) if status_of(&error) == Some(409) => self.until_gone(id).await,
            Err(error) => Err(self.engine.report("remove a container", &error)),
        }
    }

    async fn until_gone(&self, id: &str) -> Result<(), Report> {
        let gone = async {
            while found::inspect(self.engine, id).await?.is_some() {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        tokio::time::timeout(BEGIN, gone)
            .await
            .unwrap_or_else(|_| Err(self.engine.report("remove a container", &Error::RequestTimeoutError)))
    }
}
