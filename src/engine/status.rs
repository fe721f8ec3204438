//! How a deployment is: one shape on every platform.

use crate::supervisor::protocol::LastExit;
use serde::Serialize;

/// A deployment at one moment. Times are RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    pub name: String,
    pub platform: &'static str,
    /// The stack that was deployed.
    pub stack_id: String,
    /// In the order of the stack.
    pub resources: Vec<ResourceStatus>,
}

/// A resource at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub lifecycle: String,
    pub state: State,
    /// The image as it was declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The manifest digest that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The pod that it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The node that the pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Starts after the first one that nobody asked for.
    pub restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<String>,
    pub conditions: Vec<Condition>,
    /// What the platform has complained about of late, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Notice>,
}

/// Something that the platform complained about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// One word, CamelCase.
    pub reason: String,
    pub message: String,
    /// How often, up to `at`.
    pub count: u64,
    pub at: String,
}

impl ResourceStatus {
    /// A resource of which no more is known than this.
    pub fn new(id: String, kind: &str, lifecycle: String, state: State) -> Self {
        ResourceStatus {
            id,
            kind: kind.to_owned(),
            lifecycle,
            state,
            image: None,
            digest: None,
            pid: None,
            pod: None,
            node: None,
            started_at: None,
            restarts: 0,
            last_exit: None,
            next_start_at: None,
            conditions: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// What a resource is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Pending,
    Starting,
    Running,
    CrashLooping,
    Stopping,
    Stopped,
    Failed,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// By name: `SIGKILL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it was killed for want of memory.
    pub oom: bool,
    pub at: String,
}

impl From<LastExit> for ExitStatus {
    fn from(exit: LastExit) -> Self {
        ExitStatus { code: exit.code, signal: exit.signal, oom: exit.oom, at: exit.at }
    }
}

/// Something about a resource that is or is not so (Kubernetes API conventions, "Typical status properties").
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `RolledBack`, …
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word, CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Condition {
    /// A condition that is so (`True`) or not (`False`).
    pub fn new(kind: &'static str, is_so: bool, reason: &str, message: impl Into<String>) -> Self {
        let status = if is_so { "True" } else { "False" };
        Condition { kind, status, reason: reason.to_owned(), message: message.into(), since: None }
    }

    /// The same condition with its beginning.
    pub fn since(mut self, since: &str) -> Self {
        self.since = Some(since.to_owned());
        self
    }
}
