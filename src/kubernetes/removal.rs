//! Removing a daemon: its objects, and its pod to the end.

use super::api::Cluster;
use super::feed::Feed;
use super::kind::{Kind, Object};
use super::notices;
use super::snapshot::Snapshot;
use crate::engine::event::Events;
use crate::engine::plan::Action;
use crate::error::Report;
use futures_util::future::try_join_all;
use std::time::Duration;

/// A pod that is still there after this is asked about: a node that does not answer ends nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// Removes everything of a daemon, and returns once its pods are gone.
pub async fn remove(
    cluster: &Cluster,
    feed: &Feed,
    id: &str,
    snapshot: &Snapshot,
    events: &Events,
) -> Result<(), Report> {
    events.resource(id, Action::Delete, "stopping", None);
    let (deployments, others): (Vec<&Object>, Vec<&Object>) =
        snapshot.of_daemon(id).partition(|object| object.kind == Kind::Deployment);
    // What its pod uses stays until the pod has gone. Foreground: the Deployment stays until then, so that a removal
    // that was cut short is seen, and gone on with.
    try_join_all(deployments.iter().map(|object| cluster.delete(object.kind, &object.name, true))).await?;
    wait_gone(cluster, feed, id, Action::Delete, events).await?;
    try_join_all(others.iter().map(|object| cluster.delete(object.kind, &object.name, false))).await?;
    events.resource(id, Action::Delete, "removed", None);
    Ok(())
}

/// Returns once a daemon's Deployment, which is being removed, and its pods are gone.
pub async fn wait_gone(
    cluster: &Cluster,
    feed: &Feed,
    id: &str,
    action: Action,
    events: &Events,
) -> Result<(), Report> {
    let mut changes = feed.changes_of(id);
    loop {
        changes.mark_unchanged();
        let (live, pods) = feed.daemon(id);
        if feed.is_synced() && live.is_none() && pods.is_empty() {
            return Ok(());
        }
        feed.check()?;
        if tokio::time::timeout(SILENCE, changes.changed()).await.is_err() {
            for pod in &pods {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                let trouble = notices::node_trouble(cluster, node).await;
                let what = trouble.unwrap_or_else(|| "it is still ending".to_owned());
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                events.resource(id, action, "stopping", Some(format!("pod {pod:?}: {what}")));
            }
        }
    }
}
