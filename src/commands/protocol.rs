//! What travels between callers, manager and receivers: protocol `arc.v1`, as JSON over HTTP.
//!
//! Names of fields and states are those of the published protocol. `waitSeconds`, `progress`, the renewal and the
//! cancellation of leases are additions: whoever does not send them gets the plain protocol.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The protocol's name, in every envelope.
pub const PROTOCOL: &str = "arc.v1";
/// The largest body that travels in a message, in bytes before base64.
pub const INLINE_LIMIT: usize = 150_000;

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Its parameters are still to come.
    PendingUpload,
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
        !matches!(self, State::PendingUpload | State::Pending | State::Dispatched)
    }

    /// As it travels, and as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            State::PendingUpload => "PENDING_UPLOAD",
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
        use State::{Cancelled, Dispatched, Expired, Failed, Pending, PendingUpload, Succeeded};
        let all = [PendingUpload, Pending, Dispatched, Succeeded, Failed, Expired, Cancelled];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A body: parameters, or a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "mode", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Body {
    /// In the message itself.
    Inline { inline_base64: String },
    /// Beside it, under an address of its own.
    Storage {
        /// Bytes, where whoever sends them knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Of the bytes, in hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        /// Where they are to be had.
        #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
        storage_get_request: Option<PresignedRequest>,
        /// From a receiver: that they were put where its envelope said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        storage_put_used: Option<bool>,
    },
}

/// A request that needs no token: whoever has it may do just that, for an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PresignedRequest {
    pub backend: Backend,
    /// RFC 3339.
    pub expiration: String,
    /// `put` or `get`.
    pub operation: &'static str,
    /// What it is about, for people.
    pub path: String,
}

/// How such a request is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backend {
    /// `http`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub url: String,
    pub method: &'static str,
    pub headers: BTreeMap<&'static str, String>,
}

/// A daemon that takes commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    pub deployment_id: String,
    #[schema(min_length = 1, max_length = 256)]
    pub command: String,
    /// Absent means none: the JSON value `null`.
    pub params: Option<Body>,
    /// RFC 3339.
    pub deadline: Option<String>,
    #[schema(min_length = 1, max_length = 256)]
    pub idempotency_key: Option<String>,
    /// May be left out where exactly one daemon of the deployment takes commands.
    pub target_resource_id: Option<String>,
}

/// What is known of a command; the answer to making, asking and cancelling.
#[derive(Debug, Clone, Serialize, ToSchema)]
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
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    #[serde(flatten)]
    pub view: View,
    /// Where parameters go that are still to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_upload: Option<PresignedRequest>,
    /// Bytes.
    pub inline_allowed_up_to: usize,
    /// What the caller does next: bring the parameters (`upload`), ask for the result (`poll`), or nothing (`done`).
    pub next: &'static str,
}

/// `POST /v1/commands/{id}/upload-complete`: what was put, if its caller knows.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Completed {
    /// Bytes.
    pub size: Option<u64>,
    /// Of the bytes, in hexadecimal.
    pub sha256: Option<String>,
}

/// A result, as a receiver gives it and a caller gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acquire {
    pub deployment_id: String,
    pub target: Target,
    #[serde(default = "one")]
    pub max_leases: usize,
    #[serde(default = "minute")]
    #[schema(minimum = 1, maximum = 3600)]
    pub lease_seconds: u64,
    /// How long to wait for a command where there is none; 0 answers at once.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub wait_seconds: f64,
}

fn one() -> usize {
    1
}

fn minute() -> u64 {
    60
}

/// The answer to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Leases {
    pub leases: Vec<Lease>,
}

/// A command that is the receiver's for a while.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub lease_id: String,
    pub lease_expires_at: String,
    pub command_id: String,
    pub attempt: u32,
    pub envelope: Envelope,
}

/// A command as its handler gets it.
#[derive(Debug, Serialize, ToSchema)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// Where a result goes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseHandling {
    pub max_inline_bytes: usize,
    /// Relative to the manager's address. Signed: whoever has it may answer this command, and nothing else, for an hour.
    pub submit_response_url: String,
    /// Where a result goes before it is given, if it does not fit a message.
    pub storage_upload_request: PresignedRequest,
}

/// `POST /v1/commands/leases/{id}/renew`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Renew {
    #[schema(minimum = 1, maximum = 3600)]
    pub lease_seconds: u64,
    /// How long to wait with the answer for the command to be cancelled.
    #[schema(minimum = 0)]
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
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Renewed {
    pub lease_expires_at: String,
    /// Whether the caller wants no result any more: the handler is to end.
    pub cancelled: bool,
}

/// A page of `GET /v1/commands`, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub commands: Vec<View>,
    /// For the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
