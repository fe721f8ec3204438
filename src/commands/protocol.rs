//! What travels between callers, manager and receivers: protocol `arc.v1`, as JSON over HTTP.
//!
//! Names of fields and states are those of the published protocol. `waitSeconds`, `progress`, the renewal and the
//! cancellation of leases are additions: whoever does not send them gets the plain protocol.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The protocol's name, in every envelope.
pub const PROTOCOL: &str = "arc.v1";
/// The largest body that travels in a message, in bytes before base64.
pub const INLINE_LIMIT: usize = 150_000;

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// It waits for its daemon.
    Pending,
    /// Its daemon has it.
    Dispatched,
    Succeeded,
    Failed,
    /// Its deadline passed before there was a result.
    Expired,
    /// Its caller took it back.
    Cancelled,
}

impl State {
    /// Whether nothing becomes of it any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, State::Pending | State::Dispatched)
    }

    /// As it travels, and as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "PENDING",
            State::Dispatched => "DISPATCHED",
            State::Succeeded => "SUCCEEDED",
            State::Failed => "FAILED",
            State::Expired => "EXPIRED",
            State::Cancelled => "CANCELLED",
        }
    }

    /// From its name.
    pub fn parse(text: &str) -> Option<State> {
        use State::{Cancelled, Dispatched, Expired, Failed, Pending, Succeeded};
        [Pending, Dispatched, Succeeded, Failed, Expired, Cancelled].into_iter().find(|state| state.as_str() == text)
    }
}

/// A body: parameters, or a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Body {
    /// In the message itself.
    Inline { inline_base64: String },
}

/// A daemon that takes commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub resource_id: String,
    /// `daemon`, or `container` from older receivers; it tells nothing apart.
    #[serde(default = "daemon")]
    pub resource_type: String,
}

fn daemon() -> String {
    "daemon".to_owned()
}

/// `POST /v1/commands`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    pub deployment_id: String,
    pub command: String,
    /// Absent means none: the JSON value `null`.
    pub params: Option<Body>,
    /// RFC 3339.
    pub deadline: Option<String>,
    pub idempotency_key: Option<String>,
    /// May be left out where exactly one daemon of the deployment takes commands.
    pub target_resource_id: Option<String>,
}

/// What is known of a command; the answer to making, asking and cancelling.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub command_id: String,
    pub state: State,
    pub attempt: u32,
    pub command: String,
    pub target: Target,
    /// RFC 3339.
    pub created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// What the handler told last of how far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
}

/// The answer to `POST /v1/commands`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    #[serde(flatten)]
    pub view: View,
    /// Bytes.
    pub inline_allowed_up_to: usize,
    /// What the caller does next: ask for the result, or nothing.
    pub next: &'static str,
}

/// A result, as a receiver gives it and a caller gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub enum Response {
    Success {
        response: Body,
    },
    Error {
        code: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
    },
}

/// `POST /v1/commands/leases`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acquire {
    pub deployment_id: String,
    pub target: Target,
    #[serde(default = "one")]
    pub max_leases: usize,
    #[serde(default = "minute")]
    pub lease_seconds: u64,
    /// How long to wait for a command where there is none; 0 answers at once.
    #[serde(default)]
    pub wait_seconds: f64,
}

fn one() -> usize {
    1
}

fn minute() -> u64 {
    60
}

/// The answer to it.
#[derive(Debug, Serialize)]
pub struct Leases {
    pub leases: Vec<Lease>,
}

/// A command that is the receiver's for a while.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub lease_id: String,
    pub lease_expires_at: String,
    pub command_id: String,
    pub attempt: u32,
    pub envelope: Envelope,
}

/// A command as its handler gets it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    pub protocol: &'static str,
    pub deployment_id: String,
    pub target: Target,
    pub command_id: String,
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    pub command: String,
    pub params: Body,
    pub response_handling: ResponseHandling,
    /// The caller's trace (W3C Trace Context), where it sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Where a result goes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseHandling {
    pub max_inline_bytes: usize,
    /// Relative to the manager's address. Signed: whoever has it may answer this command, and nothing else, for an hour.
    pub submit_response_url: String,
}

/// `POST /v1/commands/leases/{id}/renew`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Renew {
    pub lease_seconds: u64,
    /// How long to wait with the answer for the command to be cancelled.
    pub wait_seconds: f64,
    /// How far the handler is: any JSON of at most 4 KiB.
    pub progress: Option<Value>,
}

impl Default for Renew {
    fn default() -> Self {
        Renew { lease_seconds: minute(), wait_seconds: 0.0, progress: None }
    }
}

/// The answer to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewed {
    pub lease_expires_at: String,
    /// Whether the caller wants no result any more: the handler is to end.
    pub cancelled: bool,
}

/// A page of `GET /v1/commands`, the newest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub commands: Vec<View>,
    /// For the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
