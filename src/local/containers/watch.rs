//! A deployment's status as it changes: the engine tells of its containers.

use super::Containers;
use super::names::{DEPLOYMENT, STATE, filters, known_identity};
use crate::engine::platform::StatusWatch;
use crate::engine::status::DeploymentStatus;
use crate::error::Report;
use async_trait::async_trait;
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Between two looks at what no engine tells of: a program that has lived for its settling time.
const LOOK: Duration = Duration::from_millis(250);

/// One deployment, watched.
pub struct Watch {
    containers: Containers,
    deployment: String,
    last: Option<DeploymentStatus>,
    changed: Arc<Notify>,
    _listener: JoinSet<()>,
}

impl Watch {
    /// Begins to listen.
    pub async fn begin(containers: Containers, deployment: &str) -> Result<Watch, Report> {
        let changed = Arc::new(Notify::new());
        let mut listener = JoinSet::new();
        if let Some(state) = known_identity(&containers.local.layout) {
            let docker = containers.engine().await?.docker.clone();
            let filters = filters(&[(STATE, &state), (DEPLOYMENT, deployment)]);
            let tell = Arc::clone(&changed);
            listener.spawn(async move {
                let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
                let mut events = std::pin::pin!(docker.events(Some(options)));
                while let Some(Ok(_)) = events.next().await {
                    tell.notify_one();
                }
            });
        }
        Ok(Watch { containers, deployment: deployment.to_owned(), last: None, changed, _listener: listener })
    }
}

#[async_trait]
impl StatusWatch for Watch {
    async fn next(&mut self) -> Result<Option<DeploymentStatus>, Report> {
        loop {
            match self.containers.status_of(&self.deployment).await {
                Err(error) if error.code == "DEPLOYMENT_NOT_FOUND" && self.last.is_some() => return Ok(None),
                Err(error) => return Err(error),
                Ok(status) if self.last.as_ref() != Some(&status) => {
                    self.last = Some(status.clone());
                    return Ok(Some(status));
                }
                Ok(_) => {}
            }
            let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
        }
    }
}
