//! How a deployment is: one shape on every platform.

pub use crate::supervisor::protocol::ExitStatus;
use serde::Serialize;
use std::collections::HashMap;

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
    /// What it may use, where it has limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What it uses, where that was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    pub conditions: Vec<Condition>,
    /// What the platform has complained about of late, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Notice>,
}

/// What a daemon may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Its share of the processor beside others, in cores; never a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Limits {
    /// `None` where there is neither.
    pub fn new(cpu_millis: Option<u64>, memory_bytes: Option<u64>) -> Option<Limits> {
        let cpu_cores = cpu_millis.map(|millis| millis as f64 / 1000.0);
        (cpu_cores.is_some() || memory_bytes.is_some()).then_some(Limits { cpu_cores, memory_bytes })
    }
}

/// What a daemon uses at this moment, all of its processes together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processors, over the tenth of a second before.
    pub cpu_cores: f64,
    /// Processor time of this run so far.
    pub cpu_seconds: f64,
    /// Resident memory; of a daemon with a memory limit what counts towards that and cannot be had back at once.
    pub memory_bytes: u64,
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

/// Sorts resources as the stack has them; those that it does not have come last, by id.
pub fn sort_as<'a>(resources: &mut [ResourceStatus], order: impl Iterator<Item = &'a str>) {
    let places: HashMap<&str, usize> = order.enumerate().map(|(place, id)| (id, place)).collect();
    let place = |resource: &ResourceStatus| places.get(resource.id.as_str()).copied().unwrap_or(usize::MAX);
    resources.sort_by_cached_key(|resource| (place(resource), resource.id.clone()));
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
            limits: None,
            usage: None,
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
