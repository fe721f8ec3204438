//! What is kept on disk. Behind a trait, because a fleet that outgrows one machine has a database that is shared.

mod rows;
mod schema;
mod sqlite;
mod writer;

pub use sqlite::Sqlite;

use super::clock::Millis;
use super::command::Command;
use super::protocol::State;
use super::tokens::{Record, Role};
use async_trait::async_trait;
use std::fmt;

/// The disk does not take or give what it should; the message is the operator's.
#[derive(Debug, Clone)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// What became of a command that was to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// It is on disk, under this number.
    New(i64),
    /// There is one with its idempotency key.
    There(Box<Command>),
    /// It was not: the store has as many bytes as it may.
    NoRoom { bytes: u64 },
}

/// Which commands are wanted, the newest first.
#[derive(Debug, Clone)]
pub struct Filter {
    /// `None`: those of all.
    pub deployment: Option<String>,
    pub target: Option<String>,
    pub state: Option<State>,
    /// Only those whose number is less.
    pub before: Option<i64>,
    pub limit: usize,
}

/// Commands that are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub count: usize,
    /// The ids of those whose results were beside the database.
    pub stored: Vec<String>,
}

/// Commands and tokens. What a method has answered is on disk, through kill -9 and loss of power; except for
/// [`Store::note`].
#[async_trait]
pub trait Store: Send + Sync {
    /// Every command that has not ended, in the order of their numbers.
    async fn open_commands(&self) -> Result<Vec<Command>, Broken>;

    /// Keeps a new command, unless there is one of its deployment with the same idempotency key, not older than a day.
    async fn create(&self, command: Command) -> Result<Made, Broken>;

    /// The command that this one's idempotency key belongs to, if there is one.
    async fn keyed(&self, command: &Command) -> Result<Option<Command>, Broken>;

    /// Keeps that a command's parameters are there.
    async fn uploaded(&self, command: &Command) -> Result<(), Broken>;

    /// Keeps how a command has ended.
    async fn finish(&self, command: &Command) -> Result<(), Broken>;

    /// Keeps who has a command, soon, but not through a loss of power: losing it delivers again.
    fn note(&self, command: &Command);

    /// One command, in whatever state.
    async fn find(&self, id: &str) -> Result<Option<Command>, Broken>;

    /// Commands without their parameters and results.
    async fn list(&self, filter: Filter) -> Result<Vec<Command>, Broken>;

    /// Forgets commands that ended before that moment, some at a time.
    async fn forget(&self, before: Millis, most: usize) -> Result<Forgotten, Broken>;

    /// The results that are beside the database: of which command, and under which lease.
    async fn stored_results(&self) -> Result<Vec<(String, String)>, Broken>;

    /// Every token, the oldest first.
    async fn tokens(&self) -> Result<Vec<Record>, Broken>;

    /// Keeps a token.
    async fn add_token(&self, record: Record) -> Result<(), Broken>;

    /// Forgets a token; whether there was one.
    async fn remove_token(&self, id: &str) -> Result<bool, Broken>;

    /// Forgets every token of a role in a deployment, for one daemon or for all; the ids of those that there were.
    async fn remove_tokens(&self, role: Role, deployment: &str, resource: Option<&str>) -> Result<Vec<String>, Broken>;

    /// Whether it can be read and written, for readiness.
    async fn check(&self) -> Result<(), Broken>;
}
