//! The shapes of what the engine's calls answer: plans, events, status and log lines.

use super::preflight::PreflightReport;
use napi_derive::napi;

/// What a deploy does, or would do.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Plan {
    /// One for each resource that is declared or there, in the order of the stack; removals last.
    pub changes: Vec<Change>,
}

/// What is done about one resource.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Change {
    pub id: String,
    #[napi(ts_type = "ResourceType")]
    pub r#type: String,
    /// `restart`: it is as it should be, but not up. `none`: nothing has to be done.
    #[napi(ts_type = "'create' | 'update' | 'restart' | 'delete' | 'none'")]
    pub action: String,
    /// What differs, by path; empty where nothing does.
    pub fields: Vec<FieldChange>,
    /// Why, in a few words.
    pub reason: String,
}

/// One difference. A value that must not be shown reads `(secret)`; `null` means that there is none.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct FieldChange {
    /// `environment.LOG_LEVEL`, `code.image`, `digest`, `links.bucket`, `secrets.TOKEN`.
    pub path: String,
    #[napi(ts_type = "unknown")]
    pub from: serde_json::Value,
    #[napi(ts_type = "unknown")]
    pub to: serde_json::Value,
}

/// A deployment at one moment. Times are RFC 3339, UTC, with nanoseconds.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct DeploymentStatus {
    pub name: String,
    #[napi(ts_type = "'local' | 'kubernetes'")]
    pub platform: String,
    /// The stack that was deployed.
    pub stack_id: String,
    /// In the order of the stack.
    pub resources: Vec<ResourceStatus>,
}

/// A resource at one moment.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct ResourceStatus {
    pub id: String,
    #[napi(ts_type = "ResourceType")]
    pub r#type: String,
    #[napi(ts_type = "Lifecycle")]
    pub lifecycle: String,
    /// `starting`: it runs and has yet to be up. `crash-looping`: it ended and waits for its next try. `failed`: nobody
    /// keeps it alive; deploy again.
    #[napi(ts_type = "ResourceState")]
    pub state: String,
    /// The image as it was declared.
    pub image: Option<String>,
    /// The manifest digest that runs.
    pub digest: Option<String>,
    /// The program's process id on this machine, while it runs.
    pub pid: Option<i32>,
    /// The pod that it runs in, on Kubernetes.
    pub pod: Option<String>,
    /// The node that the pod is on.
    pub node: Option<String>,
    /// When it was started.
    pub started_at: Option<String>,
    /// Starts after the first one that nobody asked for.
    pub restarts: u32,
    /// How the last run that ended by itself did.
    pub last_exit: Option<ExitStatus>,
    /// When a crash-looping daemon is tried again.
    pub next_start_at: Option<String>,
    /// What it may use, as far as it is limited.
    pub limits: Option<Limits>,
    /// What it uses, while it runs on this machine: given where `usage` was asked for.
    pub usage: Option<Usage>,
    pub conditions: Vec<Condition>,
    /// What the cluster has complained about of late, the latest last; not there where it has not.
    pub events: Option<Vec<Notice>>,
}

/// What a daemon may use.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Limits {
    /// Its share of the processor beside others, in cores; never a cap.
    pub cpu_cores: Option<f64>,
    /// The most memory that it may take, in bytes.
    pub memory_bytes: Option<f64>,
}

/// What a daemon uses, all of its processes together.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Usage {
    /// Processors, over the tenth of a second in which it was measured.
    pub cpu_cores: f64,
    /// Processor time of this run so far, in seconds.
    pub cpu_seconds: f64,
    /// Bytes of resident memory; of a daemon with a memory limit that runs as processes of this machine those that count
    /// towards it, without file cache that nobody has touched of late.
    pub memory_bytes: f64,
}

/// Something that the platform complained about.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Notice {
    /// One word, such as `FailedScheduling` or `BackOff`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often, up to `at`.
    pub count: u32,
    /// When it was said last.
    pub at: String,
}

/// How a run ended: exactly one of `code` and `signal`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct ExitStatus {
    /// What the program returned.
    pub code: Option<i32>,
    /// The signal that ended it, by name: `SIGKILL`.
    pub signal: Option<String>,
    /// Whether it was killed for want of memory.
    pub oom: bool,
    /// When.
    pub at: String,
}

/// Something about a resource that is or is not so.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct Condition {
    /// `Ready`: it is up. `RolledBack`: the last update did not stay up, and the version before runs.
    #[napi(ts_type = "'Ready' | 'RolledBack' | (string & {})")]
    pub r#type: String,
    #[napi(ts_type = "'True' | 'False' | 'Unknown'")]
    pub status: String,
    /// One word, such as `Up`, `CrashLooping`, `StartFailed` or `SupervisorDown`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when, where that is known.
    pub since: Option<String>,
}

/// A line of a daemon's output.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct LogLine {
    /// When it was read: RFC 3339, UTC, with nanoseconds.
    pub time: String,
    #[napi(ts_type = "'stdout' | 'stderr'")]
    pub stream: String,
    /// The text, without its line end; bytes that are not UTF-8 are replaced by U+FFFD.
    pub line: String,
    /// Set where the line goes on in the next one of its stream: it is longer than 16 KiB.
    pub partial: Option<bool>,
}

/// The checks are through. Comes first.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct PreflightEvent {
    #[napi(ts_type = "'preflight'")]
    pub r#type: String,
    pub report: PreflightReport,
}

/// Another call is changing the same deployment; this one waits for it.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct WaitingEvent {
    #[napi(ts_type = "'waiting'")]
    pub r#type: String,
    pub message: String,
}

/// What is going to be done. Comes once, before the first change.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct PlanEvent {
    #[napi(ts_type = "'plan'")]
    pub r#type: String,
    pub plan: Plan,
}

/// How far an image is.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct ImageEvent {
    #[napi(ts_type = "'image'")]
    pub r#type: String,
    /// The daemon that it is for.
    pub id: String,
    /// The image as it was declared.
    pub image: String,
    #[napi(ts_type = "'resolving' | 'downloading' | 'unpacking' | 'ready'")]
    pub phase: String,
    /// The manifest digest, once it is known.
    pub digest: Option<String>,
    /// Bytes that have arrived; while downloading.
    pub bytes: Option<f64>,
    /// Bytes there are in all; while downloading.
    pub total_bytes: Option<f64>,
    /// Why something other than the plain thing happens.
    pub message: Option<String>,
}

/// A resource has come to a new state.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields, rename_all = "camelCase"))]
pub struct ResourceEvent {
    #[napi(ts_type = "'resource'")]
    pub r#type: String,
    pub id: String,
    /// Why it changes.
    #[napi(ts_type = "'create' | 'update' | 'restart' | 'delete' | 'none'")]
    pub action: String,
    #[napi(ts_type = "'starting' | 'updating' | 'restarting' | 'running' | 'stopping' | 'removed'")]
    pub state: String,
    pub message: Option<String>,
}
