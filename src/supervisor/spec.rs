//! What a supervisor is told to keep alive.

use crate::sandbox::cgroup::Limits;
use crate::sandbox::{Program, Sandbox};
use crate::sys::{Context, file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file's name in a daemon's folder.
pub const CURRENT: &str = "spec.json";
/// The version that an update is to bring up. A supervisor's is [`next`] instead.
pub const NEXT: &str = "next.json";
/// How the names of all of these begin.
pub const NEXT_PREFIX: &str = "next.";
/// The version that ran before.
pub const PREVIOUS: &str = "previous.json";
/// What was that, until an update is taken up.
pub const KEPT: &str = ".previous.json";
/// The control group that its supervisor made for it, where it has limits.
pub const CGROUP: &str = "cgroup.json";
/// Says that the daemon is not wanted any more.
pub const REMOVED: &str = "removed";

/// The file of the version that one request for an update asks for. The supervisor takes it up by renaming it; until then
/// whoever holds the deployment's lock may withdraw the request by removing it, and no other request's file is touched.
pub fn next(request: u64) -> String {
    format!("{NEXT_PREFIX}{request:016x}.json")
}

/// A `spec.json`. Readers skip what they do not know: whoever deploys keeps its own notes beside `run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// What the supervisor needs.
    pub run: Spec,
}

/// One version of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Names this version; differs whenever anything else does.
    pub version: String,
    /// The image as it was declared, for status.
    pub image: String,
    /// The image's manifest digest.
    pub digest: String,
    /// What the program sees.
    pub sandbox: Sandbox,
    /// What runs.
    pub program: Program,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Sent to the program to ask it to end.
    pub stop_signal: i32,
    /// How long it may take over that, in milliseconds, before it is killed.
    pub stop_grace_ms: u64,
    /// How long it must live to count as up, in milliseconds, unless it says `READY=1` (sd_notify(3)) before.
    pub settle_ms: u64,
    /// Limits of the log's size.
    pub log: LogLimits,
    /// Who is told when the program has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndNotice>,
}

/// A service on this machine that wants to know when a program has ended: `POST http://ADDRESS/PATH?at=TIME`, with the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndNotice {
    pub address: SocketAddr,
    /// Absolute.
    pub path: String,
    /// Holds a bearer token, which may be replaced.
    pub token_file: PathBuf,
}

/// How much of a daemon's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLimits {
    /// A file's size, in bytes, at which a new one is begun.
    pub max_bytes: u64,
    /// How many files there may be, with the current one.
    pub max_files: u32,
}

/// kubelet's defaults (`containerLogMaxSize`, `containerLogMaxFiles`).
impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { max_bytes: 10 * 1024 * 1024, max_files: 5 }
    }
}

/// Reads a JSON document.
///
/// # Errors
/// The file's path and why it cannot be read or understood.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path).context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// Writes a JSON document whole or not at all, readable by its owner only: it may hold secrets.
pub fn write<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(document).map_err(io::Error::other)?;
    file::put(path, 0o600, |file| file.write_all(&bytes)).context(|| format!("write {}", path.display()))
}
