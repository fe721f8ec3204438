//! What there is of a deployment: one list for each kind, and its pods.

use super::api::Cluster;
use super::diagnosis;
use super::kind::{Kind, Object};
use super::labels;
use super::record::{self, Record};
use crate::error::Report;
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};

/// A deployment as it is.
pub struct Snapshot {
    /// Those that are the deployment's own, and no others.
    pub objects: BTreeMap<(Kind, String), Object>,
    /// By the id of their daemon.
    pub pods: BTreeMap<String, Vec<Pod>>,
    pub record: Option<Record>,
}

impl Snapshot {
    /// Looks.
    pub async fn take(cluster: &Cluster, deployment: &str) -> Result<Snapshot, Report> {
        let selector = labels::of_deployment(deployment);
        let lists = try_join_all(Kind::ALL.map(|kind| cluster.list(kind, &selector)));
        let (lists, pods) = tokio::try_join!(lists, pods(cluster, deployment))?;
        let ours = lists.into_iter().flatten().filter(|object| labels::is_of(object, deployment));
        let mut objects: BTreeMap<_, _> = ours.map(|object| ((object.kind, object.name.clone()), object)).collect();
        let record = objects.remove(&(Kind::Lease, record::lease_name(deployment)));
        Ok(Snapshot { objects, pods, record: record.map(Record::read) })
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// An object that is not being removed.
    pub fn staying(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.get(kind, name).filter(|object| object.body["metadata"]["deletionTimestamp"].is_null())
    }

    /// The objects of one daemon.
    pub fn of_daemon<'s>(&'s self, id: &'s str) -> impl Iterator<Item = &'s Object> {
        self.objects.values().filter(move |object| object.annotation(labels::RESOURCE) == Some(id))
    }

    /// The ids of all daemons that there is anything of.
    pub fn daemons(&self) -> BTreeSet<&str> {
        self.objects.values().filter_map(|object| object.annotation(labels::RESOURCE)).collect()
    }

    /// The pods of a daemon.
    pub fn pods_of(&self, id: &str) -> &[Pod] {
        self.pods.get(id).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The pods of a deployment by the id of their daemon.
pub async fn pods(cluster: &Cluster, deployment: &str) -> Result<BTreeMap<String, Vec<Pod>>, Report> {
    let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let doing = format!("listing pods in namespace {:?}", cluster.namespace);
    let all: Vec<Pod> = cluster.list_at(&path, &labels::of_deployment(deployment), &doing).await?;
    let mut pods: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for pod in all {
        if let Some(id) = diagnosis::daemon_of(&pod, deployment) {
            pods.entry(id.to_owned()).or_default().push(pod);
        }
    }
    Ok(pods)
}
