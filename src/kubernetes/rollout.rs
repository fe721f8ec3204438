//! Waiting until a daemon is up, or until it is clear that it will not be.

use super::api::Cluster;
use super::diagnosis::{self, Blocked};
use super::feed::Feed;
use super::kind::Object;
use super::labels;
use super::manifest;
use super::notices;
use crate::engine::event::Events;
use crate::engine::failure::{self, left_crash_looping};
use crate::engine::plan::Action;
use crate::error::Report;
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;
use tokio::time::Instant;

/// A pod that says nothing for so long is asked about: what keeps its sandbox from being made is told in events only.
const SILENCE: Duration = Duration::from_secs(5);

/// A kubelet looks at its containers once a second: one that it saw running just before its end is ready until the next
/// look, and a little longer until that is told.
const NEXT_LOOK: Duration = Duration::from_millis(1100);

/// What a rollout is of.
pub struct Rollout<'a> {
    pub cluster: &'a Cluster,
    pub feed: &'a Feed,
    /// The Deployment as it was when it was last changed.
    pub applied: &'a Object,
    /// The daemon's id.
    pub id: &'a str,
    pub action: Action,
    pub events: &'a Events,
    /// Whether its image pull Secret was changed with it, or just before: a kubelet may be told of that a little later than
    /// of the pod, and then asks again.
    pub new_credentials: bool,
}

/// Why waiting ended before the daemon was up.
pub enum Stopped {
    /// It will not come up.
    Blocked(Blocked),
    /// The server does not let us see how it is.
    Unseen(Report),
}

/// How far a Deployment is (`kubectl rollout status`, in its order).
enum Progress {
    /// Up.
    Done,
    /// Not yet.
    Waiting,
    /// The progress deadline has passed.
    Overdue(String),
}

impl Rollout<'_> {
    /// Returns once the daemon is up.
    ///
    /// # Errors
    /// What blocks it, once that will not pass by itself.
    pub async fn wait(&self) -> Result<(), Stopped> {
        let mut changes = self.feed.changes_of(self.id);
        let mut told: Option<String> = None;
        let mut since: Option<(u64, Instant)> = None;
        let mut quiet = Instant::now();
        let mut ready: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let (live, pods) = self.feed.daemon(self.id);
            let live = live.filter(|live| self.feed.is_synced() && live.generation() >= self.applied.generation());
            let mut wake = SILENCE;
            if let Some(live) = live.as_deref() {
                let is_ready = diagnosis::current(live, &pods).is_some_and(diagnosis::is_ready);
                ready = ready.filter(|_| is_ready).or_else(|| is_ready.then(Instant::now));
                let blocked = match progress(live) {
                    Progress::Done => {
                        let left = NEXT_LOOK.saturating_sub(ready.get_or_insert_with(Instant::now).elapsed());
                        if left.is_zero() {
                            return Ok(());
                        }
                        wake = left;
                        None
                    }
                    Progress::Overdue(message) => {
                        return Err(Stopped::Blocked(self.overdue(live, &pods, message).await));
                    }
                    Progress::Waiting if is_observed(live) => diagnosis::blocked(live, &pods),
                    Progress::Waiting => None,
                };
                match blocked {
                    None => since = None,
                    Some(mut blocked) => {
                        if self.new_credentials && blocked.is_for_credentials() {
                            blocked.patience = diagnosis::REGISTRY;
                        }
                        quiet = Instant::now();
                        self.tell(&mut told, &blocked);
                        // Reasons alternate (ErrImagePull, ImagePullBackOff) while the trouble is one.
                        // While nothing is told nobody knows whether it passes.
                        let losses = self.feed.losses();
                        let begun = match since {
                            Some((same, begun)) if same == losses => begun,
                            _ => Instant::now(),
                        };
                        since = Some((losses, begun));
                        let left = blocked.patience.saturating_sub(begun.elapsed());
                        if left.is_zero() && !self.grows(&blocked).await {
                            return Err(Stopped::Blocked(blocked));
                        }
                        wake = if left.is_zero() { SILENCE } else { left };
                    }
                }
            }
            self.feed.check().map_err(Stopped::Unseen)?;
            if tokio::time::timeout(wake, changes.changed()).await.is_err() && quiet.elapsed() >= SILENCE {
                quiet = Instant::now();
                if let Some(message) = self.whispered(live.as_deref(), &pods).await
                    && told.as_ref() != Some(&message)
                {
                    self.events.resource(self.id, self.action, "starting", Some(message.clone()));
                    told = Some(message);
                }
            }
        }
    }

    fn tell(&self, told: &mut Option<String>, blocked: &Blocked) {
        let message = format!("{}: {}", blocked.reason, blocked.message);
        if told.as_ref() != Some(&message) {
            self.events.resource(self.id, self.action, "starting", Some(message.clone()));
            *told = Some(message);
        }
    }

    /// Whether a cluster that has no room is making some.
    async fn grows(&self, blocked: &Blocked) -> bool {
        let Some(pod) = blocked.pod.as_deref().filter(|_| blocked.reason == "Unschedulable") else { return false };
        let notices = notices::of_object(self.cluster, "Pod", pod).await.unwrap_or_default();
        notices.iter().any(|notice| notice.reason == "TriggeredScaleUp")
    }

    /// What is said about a pod, or its node, nowhere but in events.
    async fn whispered(&self, live: Option<&Object>, pods: &[Pod]) -> Option<String> {
        // As long as there is no new pod, the old one is still ending.
        let current = diagnosis::current(live?, pods);
        let pod = current.or_else(|| pods.first())?;
        let name = pod.metadata.name.as_deref()?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(trouble) = notices::node_trouble(self.cluster, node).await {
            return Some(trouble);
        }
        current?;
        let notices = notices::of_object(self.cluster, "Pod", name).await.unwrap_or_default();
        let worst = notices.iter().rfind(|notice| notice.warning)?;
        Some(format!("{}: {}", worst.reason, worst.message))
    }

    async fn overdue(&self, live: &Object, pods: &[Pod], message: String) -> Blocked {
        let whispered = self.whispered(Some(live), pods).await;
        diagnosis::blocked(live, pods).unwrap_or_else(|| Blocked {
            reason: "ProgressDeadlineExceeded".to_owned(),
            message: whispered.unwrap_or(message),
            pod: diagnosis::current(live, pods).and_then(|pod| pod.metadata.name.clone()),
            exit: None,
            last_lines: Vec::new(),
            patience: Duration::ZERO,
        })
    }

    /// The error for a rollout that was not waited for to its end.
    pub fn report(&self, stopped: Stopped) -> Report {
        match stopped {
            Stopped::Blocked(blocked) => self.blocked(&blocked),
            Stopped::Unseen(report) => report,
        }
    }

    /// The error for a daemon that does not come up.
    pub fn blocked(&self, blocked: &Blocked) -> Report {
        let Blocked { reason, message, pod, exit, last_lines, .. } = blocked;
        let place = pod.as_ref().map_or_else(String::new, |pod| format!(" (pod {pod:?})"));
        let text = format!("daemon {:?} does not come up: {reason}: {message}{place}", self.id);
        let mut report = Report::new("DAEMON_NOT_UP", text)
            .with("daemon", self.id)
            .with("image", manifest::live_image(self.applied).unwrap_or_default())
            .with("reason", reason.as_str())
            .with("namespace", self.cluster.namespace.as_str());
        if let Some(pod) = pod {
            report = report.with("pod", pod.as_str());
        }
        // A program that was never started has no lines. Of one that returned 0 the pod's status has none.
        let is_silent = exit.as_ref().is_some_and(|exit| exit.code != Some(0) && reason != "StartError");
        report = if is_silent || !last_lines.is_empty() {
            failure::ended(report, exit.as_ref(), last_lines.clone())
        } else {
            failure::with_last_exit(report, exit.as_ref())
        };
        match hint(blocked, self.id) {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }
}

/// What to do about it.
fn hint(blocked: &Blocked, id: &str) -> Option<String> {
    let message = &blocked.message;
    let hint = match blocked.reason.as_str() {
        "CrashLoopBackOff" => {
            return Some(left_crash_looping(&format!("alien logs {id} --previous"), blocked.exit.as_ref()));
        }
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
            "look at the image's name; a private registry needs credentials: --docker-config, or kubernetes.registries"
        }
        "Unschedulable" => "ask for less (cpu, memory), or add a node",
        "StartError" | "RunContainerError" => "look at its command, and at the image's entry point",
        "NodeNotReady" => {
            "is the node up, and does its kubelet run? `kubectl describe node` says since when it is silent"
        }
        "CreateContainerConfigError" => "what its environment refers to is missing; deploying again makes it anew",
        "FailedCreate" if message.contains("serviceaccount ") => {
            "its ServiceAccount is gone; deploying again makes it anew"
        }
        "FailedCreate" => "the namespace's quota, limits or policies refuse its pod",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Whether the controller has seen the last change.
fn is_observed(live: &Object) -> bool {
    live.body["status"]["observedGeneration"].as_i64().unwrap_or_default() >= live.generation()
}

/// Whether the version that a Deployment has now has been up: its controller says so from then on (Kubernetes
/// documentation, "Deployments", "Complete Deployment"). One that was started again since counts as well: of that the
/// controller tells in the same words.
pub fn has_been_up(live: &Object) -> bool {
    let is_available = || {
        let condition = diagnosis::deployment_condition(live, "Progressing");
        condition.is_some_and(|condition| condition["reason"] == "NewReplicaSetAvailable")
    };
    let was_restarted = !live.body["spec"]["template"]["metadata"]["annotations"][labels::RESTARTED].is_null();
    was_restarted || (is_observed(live) && is_available())
}

/// Whether a Deployment is up as it stands.
pub fn is_up(live: &Object) -> bool {
    matches!(progress(live), Progress::Done)
}

fn progress(live: &Object) -> Progress {
    let count = |name: &str| live.body["status"][name].as_i64().unwrap_or_default();
    let wanted = live.body["spec"]["replicas"].as_i64().unwrap_or(1);
    if !is_observed(live) {
        return Progress::Waiting;
    }
    if let Some(condition) = diagnosis::deployment_condition(live, "Progressing")
        && condition["reason"] == "ProgressDeadlineExceeded"
    {
        return Progress::Overdue(condition["message"].as_str().unwrap_or("no progress").to_owned());
    }
    if count("updatedReplicas") < wanted {
        return Progress::Waiting;
    }
    if count("replicas") > count("updatedReplicas") {
        return Progress::Waiting;
    }
    if count("availableReplicas") < count("updatedReplicas") {
        return Progress::Waiting;
    }
    Progress::Done
}
