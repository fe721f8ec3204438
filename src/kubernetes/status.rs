//! How a deployment is, from its objects, pods and events.

use super::api::Cluster;
use super::diagnosis;
use super::kind::{Kind, Object};
use super::labels;
use super::manifest;
use super::notices::Said;
use super::rollout;
use super::snapshot::Snapshot;
use super::survey;
use crate::engine::failure;
use crate::engine::status::{Condition, DeploymentStatus, Notice, ResourceStatus, State, sort_as};
use crate::error::Report;
use crate::model::names;
use k8s_openapi::api::core::v1::Pod;

/// Events of one daemon that are shown: the latest.
const EVENTS: usize = 5;

/// The status of what a snapshot has. `warnings` are the namespace's.
pub fn status(deployment: &str, snapshot: &Snapshot, warnings: &[(String, String, Said)]) -> DeploymentStatus {
    let record = snapshot.record.as_ref();
    let mut resources: Vec<ResourceStatus> =
        snapshot.daemons().into_iter().map(|id| daemon(deployment, id, snapshot, warnings)).collect();
    let others = record.map(|record| record.entries.as_slice()).unwrap_or_default().iter();
    let others = others.filter(|entry| entry.kind != "daemon");
    resources.extend(others.map(|entry| {
        // It is outside, and nobody has said that it is not there.
        ResourceStatus::new(entry.id.clone(), &entry.kind, entry.lifecycle.clone(), State::Running)
    }));
    let order = record.map(|record| record.entries.as_slice()).unwrap_or_default().iter();
    sort_as(&mut resources, order.map(|entry| entry.id.as_str()));
    let of_objects = snapshot.objects.values().find_map(|object| object.annotation(labels::STACK));
    let stack = record.map(|record| record.stack.as_str()).filter(|stack| !stack.is_empty()).or(of_objects);
    DeploymentStatus {
        name: deployment.to_owned(),
        platform: "kubernetes",
        stack_id: stack.unwrap_or_default().to_owned(),
        resources,
    }
}

fn daemon(deployment: &str, id: &str, snapshot: &Snapshot, warnings: &[(String, String, Said)]) -> ResourceStatus {
    let name = names::kubernetes_name(deployment, id);
    let pods = snapshot.pods_of(id);
    let Some(live) = snapshot.get(Kind::Deployment, &name) else {
        let mut status = ResourceStatus::new(id.to_owned(), "daemon", "live".to_owned(), State::Failed);
        let message = format!("its Deployment {name:?} is gone; deploy makes it again");
        status.conditions.push(Condition::new("Ready", false, "DeploymentMissing", message));
        return status;
    };
    let pod = diagnosis::current(live, pods).or_else(|| newest(pods));
    let blocked = diagnosis::blocked(live, pods);
    let state = state(live, pod, blocked.as_ref());
    let mut status = ResourceStatus::new(id.to_owned(), "daemon", survey::lifecycle(live), state);
    status.image = manifest::live_image(live);
    status.limits = manifest::live_limits(live);
    if let Some(pod) = pod {
        describe_pod(&mut status, pod);
    }
    status.conditions.push(match pod.filter(|pod| diagnosis::is_cut_off(pod)) {
        Some(pod) => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            let message =
                format!("NodeNotReady: the node {node:?} does not answer; what becomes of its pod is not known");
            Condition::new("Ready", false, "NodeNotReady", message)
        }
        None => ready(live, state, blocked.as_ref()),
    });
    if let Some(said) = live.annotation(labels::ROLLED_BACK) {
        let (at, why) = said.split_once(' ').unwrap_or(("", said));
        let message = format!("the last update did not come up, and the version before was brought back: {why}");
        status.conditions.push(Condition::new("RolledBack", true, "UpdateFailed", message).since(at));
    }
    status.events = events(&name, warnings);
    status
}

fn newest(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone())
}

fn state(live: &Object, pod: Option<&Pod>, blocked: Option<&diagnosis::Blocked>) -> State {
    if live.body["metadata"]["deletionTimestamp"].is_string() {
        return State::Stopping;
    }
    match blocked {
        Some(blocked) if blocked.reason == "CrashLoopBackOff" => return State::CrashLooping,
        Some(blocked) if matches!(blocked.reason.as_str(), "Unschedulable" | "NodeNotReady") => return State::Pending,
        Some(_) => return State::Failed,
        None => {}
    }
    if live.body["spec"]["replicas"] == 0 {
        return if pod.is_some() { State::Stopping } else { State::Stopped };
    }
    match pod {
        None => State::Pending,
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => State::Stopping,
        Some(pod) if rollout::is_up(live) && diagnosis::is_ready(pod) => State::Running,
        Some(pod) if diagnosis::container(pod).is_none() => State::Pending,
        Some(_) => State::Starting,
    }
}

fn describe_pod(status: &mut ResourceStatus, pod: &Pod) {
    status.pod = pod.metadata.name.clone();
    status.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let Some(container) = diagnosis::container(pod) else { return };
    status.restarts = u64::try_from(container.restart_count).unwrap_or_default();
    status.digest = container.image_id.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    let running = container.state.as_ref().and_then(|state| state.running.as_ref());
    status.started_at = running.and_then(|running| running.started_at.as_ref()).map(|time| time.0.to_string());
    let ended = [&container.state, &container.last_state];
    let ended = ended.into_iter().flatten().find_map(|state| state.terminated.as_ref());
    status.last_exit = ended.map(diagnosis::exit);
}

fn ready(live: &Object, state: State, blocked: Option<&diagnosis::Blocked>) -> Condition {
    match (state, blocked) {
        (_, Some(blocked)) => {
            Condition::new("Ready", false, &blocked.reason, format!("{}: {}", blocked.reason, blocked.message))
        }
        (State::Running, None) => {
            let condition = Condition::new("Ready", true, "Up", "the program is up");
            let since = diagnosis::deployment_condition(live, "Available");
            match since.and_then(|available| available["lastTransitionTime"].as_str()) {
                Some(since) => condition.since(since),
                None => condition,
            }
        }
        (State::Stopped, None) => {
            Condition::new("Ready", false, "ScaledToZero", "somebody has scaled it to none; deploy brings it back")
        }
        (State::Stopping, None) => Condition::new("Ready", false, "Stopping", "it is being stopped"),
        (State::Pending, None) => Condition::new("Ready", false, "Pending", "its pod is being made"),
        _ => Condition::new("Ready", false, "Starting", "its pod has yet to be up"),
    }
}

/// Warnings about the Deployment, its ReplicaSets and pods, which begin with its name.
fn events(name: &str, warnings: &[(String, String, Said)]) -> Vec<Notice> {
    let about = |object: &str| object == name || object.strip_prefix(name).is_some_and(is_suffix);
    let ours = warnings
        .iter()
        .filter(|(kind, object, _)| matches!(kind.as_str(), "Pod" | "ReplicaSet" | "Deployment") && about(object));
    let mut events: Vec<Notice> = ours
        .map(|(_, _, said)| Notice {
            reason: said.reason.clone(),
            message: said.message.clone(),
            count: said.count,
            at: said.at.clone(),
        })
        .collect();
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events.split_off(events.len().saturating_sub(EVENTS))
}

/// `-<hash>` of a ReplicaSet, `-<hash>-<random>` of its pod: without vowels and other lookalikes, so no part of an id
/// is often taken for one.
fn is_suffix(rest: &str) -> bool {
    let parts: Vec<&str> = rest.split('-').skip(1).collect();
    let safe = |part: &&str| !part.is_empty() && part.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
    rest.starts_with('-') && (1..=2).contains(&parts.len()) && parts.iter().all(safe)
}

/// The status of a snapshot and the namespace's warnings, read beside it.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn of(
    cluster: &Cluster,
    deployment: &str,
    snapshot: &Snapshot,
    warnings: Vec<(String, String, Said)>,
) -> Result<DeploymentStatus, Report> {
    if !survey::is_there(snapshot) {
        return Err(not_found(cluster, deployment).await);
    }
    Ok(status(deployment, snapshot, &warnings))
}

/// There is no such deployment; what there is instead.
pub async fn not_found(cluster: &Cluster, deployment: &str) -> Report {
    let place = format!("namespace {:?}", cluster.namespace);
    let others = list(cluster).await.unwrap_or_default();
    failure::no_deployment(deployment, &place, &others, "--namespace and --context say where to look")
}

/// The names of all deployments in the namespace.
pub async fn list(cluster: &Cluster) -> Result<Vec<String>, Report> {
    let selector = labels::of_all();
    let (leases, deployments) =
        tokio::try_join!(cluster.list(Kind::Lease, &selector), cluster.list(Kind::Deployment, &selector))?;
    let names = leases.iter().chain(&deployments).filter_map(|object| object.annotation(labels::DEPLOYMENT));
    let mut names: Vec<String> = names.filter(|name| *name != labels::MANAGER.deployment).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
