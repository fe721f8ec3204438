//! The one writer: everything that waits to be written goes to disk in one commit, and is answered after it.
//!
//! A commit costs one wait for the disk, whatever is in it. So while one is under way the next is gathered, and the more
//! callers there are, the more share a wait.

use super::rows::{ALL, read};
use super::{Broken, Forgotten, Made};
use crate::commands::clock::Millis;
use crate::commands::command::{Command, Outcome};
use crate::commands::tokens::{Record, Role};
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde_json::json;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot::Sender;

/// How long an idempotency key means the command that it came with.
const IDEMPOTENCY: Millis = 24 * 3600 * 1000;
/// Writes in one commit: more would make the first of them wait for the last.
const MOST: usize = 512;

/// How long notes wait. Most commands have ended by then, and their notes need not be written at all.
const NOTES: Duration = Duration::from_millis(20);

/// Tells what came of a write.
type Reply<T> = Sender<std::result::Result<T, Broken>>;

/// Something to write.
pub enum Write {
    Create(Box<Command>, Reply<Made>),
    Finish(Box<Command>, Reply<()>),
    /// That its parameters are there.
    Uploaded(Box<Command>, Reply<()>),
    /// Who has a command. Nobody waits for it.
    Note(Box<Command>),
    Forget(Millis, usize, Reply<Forgotten>),
    AddToken(Box<Record>, Reply<()>),
    RemoveToken(String, Reply<bool>),
    RemoveTokens(Role, String, Option<String>, Reply<Vec<String>>),
    /// Nothing but a commit.
    Check(Reply<()>),
}

/// An answer that is kept back until the commit.
type Answer = Box<dyn FnOnce(std::result::Result<(), Broken>) + Send>;

/// What came of a commit, for all who wait for it: told in one piece, since every word to another thread is a call of the
/// kernel.
pub struct Told {
    answers: Vec<Answer>,
    outcome: std::result::Result<(), Broken>,
    /// How long the disk took.
    pub took: Duration,
}

impl Told {
    /// Answers everybody.
    pub fn pass_on(self) {
        for answer in self.answers {
            answer(self.outcome.clone());
        }
    }
}

/// Who has which command, where that is not on disk yet: the newest of each.
#[derive(Default)]
struct Notes {
    commands: HashMap<i64, Command>,
    since: Option<Instant>,
}

impl Notes {
    fn put(&mut self, command: Command) {
        self.since.get_or_insert_with(Instant::now);
        self.commands.insert(command.number, command);
    }

    /// How long they may still wait; `None` where there are none.
    fn left(&self) -> Option<Duration> {
        self.since.map(|since| NOTES.saturating_sub(since.elapsed()))
    }

    fn take(&mut self) -> Vec<Command> {
        self.since = None;
        self.commands.drain().map(|(_, command)| command).collect()
    }
}

/// Writes until nobody can send any more.
/// `most` is how many bytes the database may have before it takes no new commands.
pub fn run(connection: Connection, most: u64, writes: &Receiver<Write>, told: &UnboundedSender<Told>) {
    let mut writer = Writer { connection, most, syncs: None };
    let mut notes = Notes::default();
    loop {
        let first = match notes.left() {
            None => writes.recv().map_err(RecvTimeoutError::from),
            Some(left) => writes.recv_timeout(left),
        };
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let mut batch = Vec::new();
        let mut hurry = false;
        for write in first.into_iter().chain(writes.try_iter().take(MOST - 1)) {
            match write {
                Write::Note(command) => {
                    notes.put(*command);
                    continue;
                }
                Write::Finish(ref command, _) => drop(notes.commands.remove(&command.number)),
                Write::Check(_) => hurry = true,
                _ => {}
            }
            batch.push(write);
        }
        // Not without end: each takes memory.
        let due = hurry || notes.commands.len() >= MOST || notes.left() == Some(Duration::ZERO);
        let noted = if due { notes.take() } else { Vec::new() };
        if (!batch.is_empty() || !noted.is_empty()) && told.send(writer.commit(batch, &noted)).is_err() {
            return;
        }
    }
}

struct Writer {
    connection: Connection,
    most: u64,
    /// Whether the last commit waited for the disk.
    syncs: Option<bool>,
}

impl Writer {
    /// One transaction. Where it fails, everybody in it is told, and nothing of it was written.
    fn commit(&mut self, batch: Vec<Write>, notes: &[Command]) -> Told {
        let begun = Instant::now();
        let mut answers = Vec::with_capacity(batch.len());
        let written = self.write(batch, notes, &mut answers);
        let outcome = written.map_err(|error| Broken(format!("the database cannot be written: {error}")));
        Told { answers, outcome, took: begun.elapsed() }
    }

    fn write(&mut self, batch: Vec<Write>, notes: &[Command], answers: &mut Vec<Answer>) -> Result<()> {
        // Notes alone go to the kernel, which keeps them when this process is killed; nobody waits for the disk.
        let syncs = !batch.is_empty();
        if self.syncs != Some(syncs) {
            self.connection.pragma_update(None, "synchronous", if syncs { "FULL" } else { "NORMAL" })?;
            self.syncs = Some(syncs);
        }
        let transaction = self.connection.transaction()?;
        for command in notes {
            update(&transaction, command)?;
        }
        let creates = batch.iter().any(|write| matches!(write, Write::Create(..)));
        let bytes = if creates { size(&transaction)? } else { 0 };
        let full = (bytes >= self.most).then_some(bytes);
        for write in batch {
            apply(&transaction, write, full, answers)?;
        }
        transaction.commit()
    }
}

/// Bytes that the database needs; what was forgotten leaves room for what comes.
fn size(connection: &Connection) -> Result<u64> {
    let sql = "SELECT (page_count - freelist_count) * page_size
        FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).map(|bytes| bytes as u64)
}

/// `full` is the database's size where it is as large as it may be.
fn apply(connection: &Connection, write: Write, full: Option<u64>, answers: &mut Vec<Answer>) -> Result<()> {
    match write {
        Write::Create(command, reply) => later(answers, reply, create(connection, &command, full)),
        Write::Finish(command, reply) => later(answers, reply, update(connection, &command)),
        Write::Uploaded(command, reply) => later(answers, reply, uploaded(connection, &command)),
        // Kept apart, before it comes here.
        Write::Note(_) => Ok(()),
        Write::Forget(before, most, reply) => later(answers, reply, forget(connection, before, most)),
        Write::AddToken(record, reply) => later(answers, reply, add_token(connection, &record)),
        Write::RemoveToken(id, reply) => {
            let removed = connection.execute("DELETE FROM tokens WHERE id = ?1", [&id]);
            later(answers, reply, removed.map(|count| count > 0))
        }
        Write::RemoveTokens(role, deployment, resource, reply) => {
            later(answers, reply, remove_tokens(connection, role, &deployment, resource.as_deref()))
        }
        Write::Check(reply) => later(answers, reply, Ok(())),
    }
}

/// Answers once all is on disk. A write that fails takes its transaction with it, and drops the reply, which tells so.
fn later<T: Send + 'static>(answers: &mut Vec<Answer>, reply: Reply<T>, value: Result<T>) -> Result<()> {
    let value = value?;
    answers.push(Box::new(move |outcome| drop(reply.send(outcome.map(|()| value)))));
    Ok(())
}

fn create(connection: &Connection, command: &Command, full: Option<u64>) -> Result<Made> {
    if let Some(there) = same(connection, command)? {
        return Ok(Made::There(Box::new(there)));
    }
    if let Some(bytes) = full {
        return Ok(Made::NoRoom { bytes });
    }
    let sql = "INSERT INTO commands (id, deployment, target_id, target_type, name, params, created_at, deadline,
        idempotency_key, traceparent, state, attempt, params_size, params_sha256,
        tracestate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    connection.prepare_cached(sql)?.execute(params![
        command.id,
        command.deployment,
        command.target.resource_id,
        command.target.resource_type,
        command.name,
        &*command.params,
        command.created_at as i64,
        command.deadline.map(|at| at as i64),
        command.idempotency_key,
        command.traceparent,
        command.state.as_str(),
        command.attempt,
        command.upload.and_then(|upload| upload.size).map(|size| size as i64),
        command.upload.map(|upload| digest(upload.sha256)),
        command.tracestate,
    ])?;
    Ok(Made::New(connection.last_insert_rowid()))
}

/// A digest as it is kept; empty where it is not known yet.
fn digest(sha256: Option<[u8; 32]>) -> Vec<u8> {
    sha256.map_or_else(Vec::new, |sha256| sha256.to_vec())
}

fn uploaded(connection: &Connection, command: &Command) -> Result<()> {
    let upload = command.upload.unwrap_or_default();
    let sql = "UPDATE commands SET state = ?2, params_size = ?3, params_sha256 = ?4 WHERE number = ?1 AND finished_at IS NULL";
    let size = upload.size.map(|size| size as i64);
    connection.prepare_cached(sql)?.execute(params![
        command.number,
        command.state.as_str(),
        size,
        digest(upload.sha256)
    ])?;
    Ok(())
}

/// The command that was made with the same idempotency key.
pub fn same(connection: &Connection, command: &Command) -> Result<Option<Command>> {
    let Some(key) = &command.idempotency_key else { return Ok(None) };
    let sql = format!(
        "SELECT {ALL} FROM commands WHERE deployment = ?1 AND idempotency_key = ?2 AND created_at > ?3 \
         ORDER BY number DESC LIMIT 1"
    );
    let since = command.created_at.saturating_sub(IDEMPOTENCY) as i64;
    connection.prepare_cached(&sql)?.query_row(params![command.deployment, key, since], read).optional()
}

/// Whatever was first to end a command stays, also where somebody is wrong about what comes after what.
fn update(connection: &Connection, command: &Command) -> Result<()> {
    let (response, error) = match &command.outcome {
        None | Some(Outcome::Stored { .. }) => (None, None),
        Some(Outcome::Success(bytes)) => (Some(bytes.as_slice()), None),
        Some(Outcome::Error { code, message, details }) => {
            (None, Some(json!({ "code": code, "message": message, "details": details }).to_string()))
        }
    };
    let stored = match &command.outcome {
        Some(Outcome::Stored { lease, body }) => Some((lease, body)),
        _ => None,
    };
    let sql = "UPDATE commands SET state = ?2, attempt = ?3, lease_id = ?4, lease_expires_at = ?5, finished_at = ?6,
        response = ?7, error = ?8, response_lease = ?9, response_size = ?10, response_sha256 = ?11 WHERE number = ?1 AND finished_at IS NULL";
    connection.prepare_cached(sql)?.execute(params![
        command.number,
        command.state.as_str(),
        command.attempt,
        command.lease.as_ref().map(|lease| &lease.id),
        command.lease.as_ref().map(|lease| lease.expires_at as i64),
        command.finished_at.map(|at| at as i64),
        response,
        error,
        stored.map(|(lease, _)| lease),
        stored.map(|(_, body)| body.size as i64),
        stored.map(|(_, body)| body.sha256.as_slice()),
    ])?;
    Ok(())
}

fn forget(connection: &Connection, before: Millis, most: usize) -> Result<Forgotten> {
    let sql = "DELETE FROM commands WHERE number IN
        (SELECT number FROM commands WHERE finished_at IS NOT NULL AND finished_at < ?1 LIMIT ?2)
        RETURNING CASE WHEN response_lease IS NOT NULL THEN id END";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map(params![before as i64, most as i64], |row| row.get::<_, Option<String>>(0))?;
    let mut forgotten = Forgotten::default();
    for id in ids {
        forgotten.count += 1;
        forgotten.stored.extend(id?);
    }
    Ok(forgotten)
}

fn add_token(connection: &Connection, record: &Record) -> Result<()> {
    let sql = "INSERT INTO tokens (id, hash, role, deployment, resource, created_at, expires_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.execute(
        sql,
        params![
            record.id,
            record.hash.as_slice(),
            record.scope.role().as_str(),
            record.scope.deployment(),
            record.scope.resource(),
            record.created_at as i64,
            record.expires_at.map(|at| at as i64),
        ],
    )?;
    Ok(())
}

fn remove_tokens(connection: &Connection, role: Role, deployment: &str, resource: Option<&str>) -> Result<Vec<String>> {
    let sql = "DELETE FROM tokens WHERE role = ?1 AND deployment = ?2 AND (?3 IS NULL OR resource = ?3) RETURNING id";
    let mut statement = connection.prepare(sql)?;
    let ids = statement.query_map(params![role.as_str(), deployment, resource], |row| row.get(0))?;
    ids.collect()
}
