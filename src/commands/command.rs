//! A command, and what may become of it. Pure: time and chance come from outside.
//!
//! ```text
//! PENDING_UPLOAD ── its parameters are there ──▶ PENDING
//! PENDING ── lease ──▶ DISPATCHED ── respond ──▶ SUCCEEDED | FAILED
//!    ▲                     │
//!    └── release, lease ran out (attempt + 1; after the last one FAILED)
//! whichever has not ended ── deadline ──▶ EXPIRED      ── cancel ──▶ CANCELLED
//! PENDING_UPLOAD ── an hour ──▶ EXPIRED
//! ```
//!
//! Whatever was first to end it stays: an ended command takes no other result.

use super::clock::Millis;
use super::protocol::{State, Target};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// How long its caller has to bring parameters that do not fit a message.
pub const UPLOAD_TIME: Millis = 3600 * 1000;

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `cmd_<uuid>`.
    pub id: String,
    /// Its place among all commands: a daemon gets its commands in this order.
    pub number: i64,
    pub deployment: String,
    pub target: Target,
    pub name: String,
    /// Shared: they are large, never change, and a command is copied with each change.
    pub params: Arc<[u8]>,
    /// Where they do not fit a message: they are beside the database, and `params` is empty.
    pub upload: Option<Upload>,
    pub created_at: Millis,
    pub deadline: Option<Millis>,
    pub idempotency_key: Option<String>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub state: State,
    /// Which delivery it is at: 1 for the first.
    pub attempt: u32,
    /// While dispatched.
    pub lease: Option<Lease>,
    /// Once ended.
    pub outcome: Option<Outcome>,
    pub finished_at: Option<Millis>,
}

/// For how long a receiver has a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `lease_<uuid>`, of version 7: it tells when the lease was given.
    pub id: String,
    pub expires_at: Millis,
}

/// A whole body beside the database: how many bytes, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub size: u64,
    pub sha256: [u8; 32],
}

/// Parameters beside the database: what their caller said of them, and what they are once they are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upload {
    /// Bytes; `None` where the caller does not know yet.
    pub size: Option<u64>,
    /// `None` until they are there.
    pub sha256: Option<[u8; 32]>,
}

impl Upload {
    /// What is there.
    pub fn stored(&self) -> Option<Stored> {
        Some(Stored { size: self.size?, sha256: self.sha256? })
    }

    /// Whether another upload may be of the same bytes.
    pub fn resembles(&self, other: &Upload) -> bool {
        self.size.is_none() || other.size.is_none() || self.size == other.size
    }
}

impl Lease {
    /// When it was given; `None` where the id does not tell.
    pub fn given_at(&self) -> Option<Millis> {
        let (seconds, nanos) = self.id.strip_prefix("lease_")?.parse::<Uuid>().ok()?.get_timestamp()?.to_unix();
        Some(seconds * 1000 + u64::from(nanos) / 1_000_000)
    }
}

/// What a handler gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Success(Vec<u8>),
    /// The same, beside the database: what was put there under this lease.
    Stored {
        lease: String,
        body: Stored,
    },
    Error {
        code: String,
        message: String,
        details: Option<Value>,
    },
}

/// Why something cannot be done to a command as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was handed to somebody else since: the lease is not the current one.
    StaleLease,
    /// It has ended.
    Ended(State),
    /// It is in another state than that needs.
    WrongState(State),
}

impl Command {
    /// Its parameters are there: it waits for its daemon.
    pub fn complete(&mut self, body: Stored) -> Result<(), Refused> {
        match self.state {
            State::PendingUpload => {
                self.state = State::Pending;
                self.upload = Some(Upload { size: Some(body.size), sha256: Some(body.sha256) });
                Ok(())
            }
            State::Pending | State::Dispatched => Err(Refused::WrongState(self.state)),
            ended => Err(Refused::Ended(ended)),
        }
    }

    /// Hands it to a receiver.
    pub fn lease(&mut self, lease: Lease) -> Result<(), Refused> {
        match self.state {
            State::Pending => {
                self.state = State::Dispatched;
                self.lease = Some(lease);
                Ok(())
            }
            State::PendingUpload | State::Dispatched => Err(Refused::WrongState(self.state)),
            ended => Err(Refused::Ended(ended)),
        }
    }

    /// Whether `lease` is the current one.
    pub fn is_leased_by(&self, lease: &str) -> bool {
        self.state == State::Dispatched && self.lease.as_ref().is_some_and(|current| current.id == lease)
    }

    /// Gives the receiver more time.
    pub fn renew(&mut self, lease: &str, expires_at: Millis) -> Result<(), Refused> {
        if !self.is_leased_by(lease) {
            return Err(Refused::StaleLease);
        }
        if let Some(lease) = &mut self.lease {
            lease.expires_at = expires_at;
        }
        Ok(())
    }

    /// Takes it back from a receiver, to be delivered again; after `most` attempts it has failed. `why` is for people.
    pub fn take_back(&mut self, now: Millis, most: u32, why: &str) {
        self.lease = None;
        if self.attempt < most {
            self.state = State::Pending;
            self.attempt += 1;
            return;
        }
        let message = format!("given up after {most} attempts: {why}");
        self.end(State::Failed, now);
        self.outcome = Some(Outcome::Error { code: "ATTEMPTS_EXHAUSTED".to_owned(), message, details: None });
    }

    /// Whether a result may be given under this lease, or under none (as receivers do that know no leases).
    pub fn takes_result(&self, lease: Option<&str>) -> Result<(), Refused> {
        if self.state.is_terminal() {
            return Err(Refused::Ended(self.state));
        }
        match lease {
            Some(lease) if !self.is_leased_by(lease) => Err(Refused::StaleLease),
            None if self.state != State::Dispatched => Err(Refused::WrongState(self.state)),
            _ => Ok(()),
        }
    }

    /// Ends it with a result.
    pub fn respond(&mut self, lease: Option<&str>, outcome: Outcome, now: Millis) -> Result<(), Refused> {
        self.takes_result(lease)?;
        let failed = matches!(outcome, Outcome::Error { .. });
        self.end(if failed { State::Failed } else { State::Succeeded }, now);
        self.outcome = Some(outcome);
        Ok(())
    }

    /// Takes it back from its caller's side.
    pub fn cancel(&mut self, now: Millis) -> Result<(), Refused> {
        self.end_early(State::Cancelled, now)
    }

    /// Its deadline has passed.
    pub fn expire(&mut self, now: Millis) -> Result<(), Refused> {
        self.end_early(State::Expired, now)
    }

    fn end_early(&mut self, state: State, now: Millis) -> Result<(), Refused> {
        if self.state.is_terminal() {
            return Err(Refused::Ended(self.state));
        }
        self.end(state, now);
        Ok(())
    }

    fn end(&mut self, state: State, now: Millis) {
        self.state = state;
        self.lease = None;
        self.finished_at = Some(now);
    }

    /// When it expires: at its deadline, or when its parameters have not come in time.
    pub fn expires_at(&self) -> Option<Millis> {
        let upload = (self.state == State::PendingUpload).then(|| self.created_at.saturating_add(UPLOAD_TIME));
        self.deadline.into_iter().chain(upload).min()
    }

    /// When something happens to it by itself: its lease runs out, or it expires.
    pub fn due(&self) -> Option<Millis> {
        if self.state.is_terminal() {
            return None;
        }
        self.lease.iter().map(|lease| lease.expires_at).chain(self.expires_at()).min()
    }
}
