//! Why a daemon is not up, in the words of its pod and of the cluster.

use super::kind::Object;
use super::labels;
use super::manifest::CONTAINER;
use crate::engine::status::ExitStatus;
use crate::sys::process::Exit;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition};
use serde_json::Value;
use std::time::Duration;

/// What keeps a daemon from coming up.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocked {
    /// One word of the cluster's: `ImagePullBackOff`, `Unschedulable`, `FailedCreate`, …
    pub reason: String,
    /// The cluster's own sentence.
    pub message: String,
    /// The pod, where there is one.
    pub pod: Option<String>,
    /// How the program ended, where it did.
    pub exit: Option<ExitStatus>,
    /// The program's last lines, as the pod's status has them.
    pub last_lines: Vec<String>,
    /// How long it has to stand before the rollout counts as failed: what may well pass by itself is told at once, and
    /// waited for.
    pub patience: Duration,
}

/// What only a change of the stack or of the cluster mends.
const FINAL: Duration = Duration::ZERO;
/// Controllers try again within this where a quota or an account has only just been made.
const CONTROLLER: Duration = Duration::from_millis(1500);
/// A cluster that grows by itself says that it does within this.
const SCHEDULER: Duration = Duration::from_secs(10);
/// A kubelet hears of a Secret a little later than of the pod that wants it, and looks again 10 to 15 s after it had none
/// (`backOffPeriod` in its pod workers).
const KUBELET: Duration = Duration::from_secs(20);
/// A node that restarts is back within this.
const NODE: Duration = Duration::from_secs(90);
/// A registry that is away may come back.
pub const REGISTRY: Duration = Duration::from_secs(30);

impl Blocked {
    /// Whether a registry does not accept what it was asked with.
    pub fn is_for_credentials(&self) -> bool {
        let said = self.message.to_ascii_lowercase();
        matches!(self.reason.as_str(), "ErrImagePull" | "ImagePullBackOff")
            && ["401", "403", "unauthorized", "forbidden", "denied"].iter().any(|word| said.contains(word))
    }
}

/// What keeps the live Deployment's pod from coming up, as far as the cluster has said.
pub fn blocked(live: &Object, pods: &[Pod]) -> Option<Blocked> {
    let current = current(live, pods);
    if let Some(pod) = current {
        return pod_blocked(pod);
    }
    // There is no pod: was there to be one, and who said no?
    let conditions = live.body["status"]["conditions"].as_array()?;
    let failure =
        conditions.iter().find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")?;
    Some(Blocked {
        reason: failure["reason"].as_str().unwrap_or("FailedCreate").to_owned(),
        message: in_short(failure["message"].as_str().unwrap_or("its pod cannot be made")),
        pod: None,
        exit: None,
        last_lines: Vec::new(),
        patience: CONTROLLER,
    })
}

/// The newest pod of the Deployment's present template that is not on its way out.
pub fn current<'p>(live: &Object, pods: &'p [Pod]) -> Option<&'p Pod> {
    let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_current(live, pod));
    staying.max_by_key(|pod| pod.metadata.creation_timestamp.clone())
}

/// Whether a pod was made from the Deployment's present template.
fn is_current(live: &Object, pod: &Pod) -> bool {
    let wanted = &live.body["spec"]["template"]["metadata"]["annotations"];
    [labels::VERSION, labels::RESTARTED].iter().all(|key| annotation(pod, key) == wanted[key].as_str())
}

/// Whether a pod counts as ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether a pod's node has stopped telling about it. Then it is said to be no longer ready by the cluster's controllers,
/// which know nothing of its containers.
pub fn is_cut_off(pod: &Pod) -> bool {
    let is = |kind: &str, status: &str| condition(pod, kind).is_some_and(|condition| condition.status == status);
    is("Ready", "False") && is("ContainersReady", "True")
}

pub fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The daemon of a deployment that a pod is of.
pub fn daemon_of<'p>(pod: &'p Pod, deployment: &str) -> Option<&'p str> {
    annotation(pod, labels::RESOURCE).filter(|_| annotation(pod, labels::DEPLOYMENT) == Some(deployment))
}

/// The daemon's container in a pod.
pub fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|container| container.name == CONTAINER)
}

pub fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn pod_blocked(pod: &Pod) -> Option<Blocked> {
    let name = pod.metadata.name.clone();
    let blocked = |reason: &str, message: &str, patience| Blocked {
        reason: reason.to_owned(),
        message: in_short(message),
        pod: name.clone(),
        exit: None,
        last_lines: Vec::new(),
        patience,
    };
    let unscheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False");
    if let Some(unscheduled) = unscheduled {
        let reason = unscheduled.reason.as_deref().unwrap_or("Unschedulable");
        let message = unscheduled.message.as_deref().unwrap_or("no node takes its pod");
        // The taints of a node that does not answer (Kubernetes documentation, "Taints and Tolerations").
        if ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]
            .iter()
            .any(|taint| message.contains(taint))
        {
            return Some(blocked("NodeNotReady", message, NODE));
        }
        return Some(blocked(reason, message, SCHEDULER));
    }
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        return Some(blocked(reason, status.message.as_deref().unwrap_or("its pod has failed"), FINAL));
    }
    let container = container(pod)?;
    if let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) {
        return waiting_blocked(container, waiting, &blocked);
    }
    // A program may end once, say because what it needs came up after it; twice is a habit.
    let terminated = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    let terminated = terminated.filter(|_| container.restart_count > 0)?;
    Some(ended("CrashLoopBackOff", terminated, blocked("", "", FINAL)))
}

fn waiting_blocked(
    container: &ContainerStatus,
    waiting: &ContainerStateWaiting,
    blocked: &impl Fn(&str, &str, Duration) -> Blocked,
) -> Option<Blocked> {
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or(reason);
    match reason {
        "PodInitializing" | "ContainerCreating" => None,
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            Some(match last {
                Some(last) => ended(reason, last, blocked("", "", FINAL)),
                None => blocked(reason, message, FINAL),
            })
        }
        "CreateContainerConfigError" => Some(blocked(reason, message, KUBELET)),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
            Some(blocked(reason, message, if may_pass(message) { REGISTRY } else { FINAL }))
        }
        _ => Some(blocked(reason, message, FINAL)),
    }
}

/// Whether a pull may succeed the next time.
fn may_pass(message: &str) -> bool {
    let passing = [
        "timeout",
        "connection refused",
        "connection reset",
        "no such host",
        "i/o",
        "EOF",
        "429",
        " 500 ",
        " 502 ",
        " 503 ",
        " 504 ",
        "TLS handshake",
    ];
    passing.iter().any(|text| message.contains(text))
}

fn ended(reason: &str, terminated: &ContainerStateTerminated, blocked: Blocked) -> Blocked {
    let exit = exit(terminated);
    let how = exit.in_words();
    let said = terminated.message.as_deref().unwrap_or_default();
    // A program that could not even be started has printed nothing: the runtime says why.
    if matches!(terminated.reason.as_deref(), Some("StartError" | "ContainerCannotRun")) {
        let message = format!("the program cannot be started: {}", in_short(said));
        return Blocked { reason: "StartError".to_owned(), message, exit: Some(exit), ..blocked };
    }
    let last_lines = said.lines().map(str::to_owned).collect();
    Blocked {
        reason: reason.to_owned(),
        message: format!("its program ended with {how}"),
        exit: Some(exit),
        last_lines,
        ..blocked
    }
}

/// How a container ended.
pub fn exit(terminated: &ContainerStateTerminated) -> ExitStatus {
    let exit = terminated.signal.map_or_else(|| Exit::from_shell_code(terminated.exit_code), Exit::Signal);
    let oom = terminated.reason.as_deref() == Some("OOMKilled");
    let at = terminated.finished_at.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    ExitStatus::new(exit, oom, at)
}

/// A message without what runtimes and kubelets wrap around it.
pub fn in_short(message: &str) -> String {
    let message = message.trim();
    // `failed to create …: OCI runtime create failed: … unable to start container process: …: unknown`
    if let Some((_, cause)) = message.rsplit_once("unable to start container process: ") {
        let cause = cause.strip_prefix("error during container init: ").unwrap_or(cause);
        return cause.strip_suffix(": unknown").unwrap_or(cause).to_owned();
    }
    let message = message.strip_prefix("rpc error: ").unwrap_or(message);
    // `failed to pull and unpack image "x": failed to resolve reference "x": x: not found` says one thing three times.
    message.replace("rpc error: code = NotFound desc = ", "").replace("rpc error: code = Unknown desc = ", "")
}

/// A condition of a Deployment, by its type.
pub fn deployment_condition<'o>(live: &'o Object, kind: &str) -> Option<&'o Value> {
    live.body["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
