//! What is said over the control sockets: one JSON document a line, versioned.
//!
//! A supervisor's `control.sock` takes a [`Request`] and answers with [`Reply`]s. `status` has one reply; `watch` has
//! one now and one at every change, until the caller hangs up; `update` and `restart` reply once they are accepted (or
//! refused) and then go on as `watch` does. The scanner's socket takes `scan` and replies once it has looked. Both take `renew`.
//! Who is about to change the folders connects to the scanner first, and says `scan` afterwards: a scanner looks as well
//! when a caller goes without a word, since that one was killed in between.

use crate::sandbox::Failure;
use crate::sys::process::Exit;
use crate::sys::signal;
use serde::{Deserialize, Serialize};

/// The protocol's version; a peer with another one answers with the error `PROTOCOL_MISMATCH`.
pub const VERSION: u32 = 1;
/// A supervisor's socket in its daemon's folder.
pub const CONTROL: &str = "control.sock";
/// The scanner's socket in the state directory.
pub const SCANNER: &str = "scanner.sock";

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// What is wanted.
    pub op: Op,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// How the daemon is, once.
    Status,
    /// How the daemon is, now and at every change.
    Watch,
    /// Stop the daemon and start it again.
    Restart,
    /// Run what the file of this number says instead (see [`super::spec::next`]); go back if it does not stay up.
    Update(u64),
    /// To the scanner: look at the folders again.
    Scan,
    /// Become the program that the state directory wants, as soon as nothing is half done; see `handover`.
    Renew,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The call was taken.
    Accepted,
    /// The call was refused; nothing has changed.
    Refused(Failure),
    /// How the daemon is.
    Status(Box<Status>),
}

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing runs yet; the sandbox is being built.
    Pending,
    /// It runs, and is not yet up.
    Starting,
    /// It is up.
    Running,
    /// It ended and waits for its next try.
    CrashLooping,
    /// It was asked to end.
    Stopping,
}

/// A daemon's state, as its supervisor sees it. Times are RFC 3339, UTC, with nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it does now.
    pub state: Phase,
    /// Since when.
    pub since: String,
    /// The program's process id, as the host sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When that process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Starts after the first one that nobody asked for.
    pub restarts: u64,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitStatus>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<String>,
    /// Why the last start did not even reach the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why it runs without its limits, where they cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlimited: Option<Failure>,
    /// The update that was taken back, if the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// The running spec's `version`.
    pub version: String,
    /// Whether that version has been up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_up: bool,
    /// The image as it was declared.
    pub image: String,
    /// The image's manifest digest.
    pub digest: String,
}

/// How a process ended: exactly one of `code` and `signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    /// What it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it: `SIGKILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether a process of it was killed for want of memory under the daemon's own limit.
    #[serde(default)]
    pub oom: bool,
    /// When.
    pub at: String,
}

impl ExitStatus {
    /// How it ended, `at` a time.
    pub fn new(exit: Exit, oom: bool, at: String) -> Self {
        match exit {
            Exit::Code(code) => ExitStatus { code: Some(code), signal: None, oom, at },
            Exit::Signal(number) => ExitStatus { code: None, signal: Some(signal::name(number)), oom, at },
        }
    }

    /// `exit code 3`, `SIGKILL`.
    pub fn in_words(&self) -> String {
        match (&self.signal, self.code) {
            _ if self.oom => "OOMKilled: it took more memory than its limit".to_owned(),
            (Some(signal), _) => signal.clone(),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "an unknown cause".to_owned(),
        }
    }
}

/// An update that did not stay up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// The version that was tried.
    pub version: String,
    /// How it ended, where its program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Why its program could not be started, where it did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl RolledBack {
    /// `its program ended with SIGSEGV`, or why it could not be started.
    pub fn why(&self) -> String {
        match (&self.failure, &self.exit) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(exit)) => format!("its program ended with {}", exit.in_words()),
            (None, None) => "its program ended".to_owned(),
        }
    }
}
