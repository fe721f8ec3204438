//! Events of the cluster (Kubernetes `v1/Event`), and what is wrong with a node.

use super::api::{Cluster, encode};
use crate::engine::status::Notice;
use crate::error::Report;
use k8s_openapi::api::core::v1::{Event, Node};

/// An event about one object.
pub struct Said {
    pub reason: String,
    pub message: String,
    pub count: u64,
    pub at: String,
    /// Whether it is a warning.
    pub warning: bool,
}

impl From<Said> for Notice {
    fn from(said: Said) -> Notice {
        Notice { reason: said.reason, message: said.message, count: said.count, at: said.at }
    }
}

/// What is said about an object, the latest last.
pub async fn of_object(cluster: &Cluster, kind: &str, name: &str) -> Result<Vec<Said>, Report> {
    chosen(cluster, &format!("involvedObject.kind={kind},involvedObject.name={name}")).await
}

/// Every warning of the namespace, with the kind and name of its object.
pub async fn warnings(cluster: &Cluster) -> Result<Vec<(String, String, Said)>, Report> {
    let events = list(cluster, "type=Warning").await?;
    let told = events.into_iter().map(|event| {
        let object = event.involved_object.clone();
        (object.kind.unwrap_or_default(), object.name.unwrap_or_default(), said(event))
    });
    Ok(told.collect())
}

async fn chosen(cluster: &Cluster, fields: &str) -> Result<Vec<Said>, Report> {
    let mut said: Vec<Said> = list(cluster, fields).await?.into_iter().map(said).collect();
    said.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(said)
}

async fn list(cluster: &Cluster, fields: &str) -> Result<Vec<Event>, Report> {
    #[derive(serde::Deserialize)]
    struct List {
        items: Vec<Event>,
    }
    let path = format!("/api/v1/namespaces/{}/events?limit=500&fieldSelector={}", cluster.namespace, encode(fields));
    let doing = format!("listing events in namespace {:?}", cluster.namespace);
    Ok(cluster.ask::<List>(http::Method::GET, &path, None, &doing).await?.items)
}

fn said(event: Event) -> Said {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0.to_string());
    let last = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let first = event.event_time.as_ref().map(|time| time.0.to_string());
    Said {
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default().trim().to_owned(),
        count: event.count.unwrap_or(1).max(1) as u64,
        at: series.or(last).or(first).unwrap_or_default(),
        warning: event.type_.as_deref() == Some("Warning"),
    }
}

/// What is wrong with a node. Nodes are the cluster's, and who may not read them is told nothing.
pub async fn node_trouble(cluster: &Cluster, node: Option<&str>) -> Option<String> {
    let name = node?;
    let path = format!("/api/v1/nodes/{name}");
    let node: Node = cluster.ask(http::Method::GET, &path, None, "reading a node").await.ok()?;
    let conditions = node.status?.conditions?;
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready" && condition.status != "True")?;
    let why = ready.message.unwrap_or_default();
    Some(format!("NodeNotReady: the node {name:?} does not answer: {why}"))
}
