//! A deployment's status as it changes.

use super::api::Cluster;
use super::feed::Feed;
use super::notices;
use super::snapshot::Snapshot;
use super::status;
use super::survey;
use crate::engine::platform::StatusWatch;
use crate::engine::status::DeploymentStatus;
use crate::error::Report;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// Changes that come closer together than this are told as one.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Watch {
    cluster: Arc<Cluster>,
    deployment: String,
    feed: Feed,
    last: Option<DeploymentStatus>,
}

impl Watch {
    /// # Errors
    /// `DEPLOYMENT_NOT_FOUND`.
    pub async fn open(cluster: &Arc<Cluster>, deployment: &str) -> Result<Watch, Report> {
        let snapshot = Snapshot::take(cluster, deployment).await?;
        if !survey::is_there(&snapshot) {
            return Err(status::not_found(cluster, deployment).await);
        }
        let feed = Feed::start(cluster, deployment);
        Ok(Watch { cluster: Arc::clone(cluster), deployment: deployment.to_owned(), feed, last: None })
    }
}

#[async_trait]
impl StatusWatch for Watch {
    async fn next(&mut self) -> Result<Option<DeploymentStatus>, Report> {
        let mut changes = self.feed.changes();
        loop {
            changes.mark_unchanged();
            let snapshot = Snapshot::take(&self.cluster, &self.deployment);
            let (snapshot, warnings) = tokio::try_join!(snapshot, notices::warnings(&self.cluster))?;
            if !survey::is_there(&snapshot) {
                return Ok(None);
            }
            let now = status::status(&self.deployment, &snapshot, &warnings);
            if self.last.as_ref() != Some(&now) {
                self.last = Some(now.clone());
                return Ok(Some(now));
            }
            if changes.changed().await.is_err() {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
