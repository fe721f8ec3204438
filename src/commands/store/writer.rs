//! The one writer: everything that waits to be written goes to disk in one commit, and is answered after it.
//!
//! A commit costs one wait for the disk, whatever is in it. So while one is under way the next is gathered, and the more
//! callers there are, the more share a wait.

use super::rows::{ALL, read};
use super::{Broken, Made};
use crate::commands::clock::Millis;
use crate::commands::command::{Command, Outcome};
use crate::commands::tokens::{Record, Role};
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde_json::json;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::Sender;

/// How long an idempotency key means the command that it came with.
const IDEMPOTENCY: Millis = 24 * 3600 * 1000;
/// Writes in one commit: more would make the first of them wait for the last.
const MOST: usize = 512;

/// How long notes wait for something that goes to the disk anyway.
const COMPANY: Duration = Duration::from_millis(20);

/// Tells what came of a write.
type Reply<T> = Sender<std::result::Result<T, Broken>>;

/// Something to write.
pub enum Write {
    Create(Box<Command>, Reply<Made>),
    Finish(Box<Command>, Reply<()>),
    /// Who has a command. Nobody waits for it.
    Note(Box<Command>),
    Forget(Millis, usize, Reply<usize>),
    AddToken(Box<Record>, Reply<()>),
    RemoveToken(String, Reply<bool>),
    RemoveTokens(Role, String, Option<String>, Reply<Vec<String>>),
    /// Nothing but a commit.
    Check(Reply<()>),
}

/// An answer that is kept back until the commit.
type Answer = Box<dyn FnOnce(std::result::Result<(), Broken>)>;

/// Writes until nobody can send any more.
pub fn run(mut connection: Connection, writes: &Receiver<Write>) {
    while let Ok(first) = writes.recv() {
        let mut batch = vec![first];
        batch.extend(writes.try_iter().take(MOST - 1));
        // Notes wait a little for company, though not without end: each takes memory. What comes after them stays after them.
        let begun = Instant::now();
        while batch.len() < MOST && is_notes(&batch) {
            match writes.recv_timeout(COMPANY.saturating_sub(begun.elapsed())) {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        commit(&mut connection, batch);
    }
}

fn is_notes(batch: &[Write]) -> bool {
    batch.iter().all(|write| matches!(write, Write::Note(_)))
}

/// One transaction. Where it fails, everybody in it is told, and nothing of it was written.
fn commit(connection: &mut Connection, batch: Vec<Write>) {
    let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
    // Notes alone go to the kernel, which keeps them when this process is killed; nobody waits for the disk.
    let synchronous = if is_notes(&batch) { "NORMAL" } else { "FULL" };
    let written = (|| {
        connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = connection.transaction()?;
        for write in batch {
            apply(&transaction, write, &mut answers)?;
        }
        transaction.commit()
    })();
    let outcome = written.map_err(|error: rusqlite::Error| Broken(format!("the database cannot be written: {error}")));
    for answer in answers {
        answer(outcome.clone());
    }
}

fn apply(connection: &Connection, write: Write, answers: &mut Vec<Answer>) -> Result<()> {
    match write {
        Write::Create(command, reply) => later(answers, reply, create(connection, &command)),
        Write::Finish(command, reply) => later(answers, reply, update(connection, &command)),
        Write::Note(command) => update(connection, &command),
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
fn later<T: 'static>(answers: &mut Vec<Answer>, reply: Reply<T>, value: Result<T>) -> Result<()> {
    let value = value?;
    answers.push(Box::new(move |outcome| drop(reply.send(outcome.map(|()| value)))));
    Ok(())
}

fn create(connection: &Connection, command: &Command) -> Result<Made> {
    if let Some(there) = same(connection, command)? {
        return Ok(Made::There(Box::new(there)));
    }
    let sql = "INSERT INTO commands (id, deployment, target_id, target_type, name, params, created_at, deadline,
        idempotency_key, traceparent, state, attempt) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
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
    ])?;
    Ok(Made::New(connection.last_insert_rowid()))
}

/// The command that was made with the same idempotency key.
fn same(connection: &Connection, command: &Command) -> Result<Option<Command>> {
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
        None => (None, None),
        Some(Outcome::Success(bytes)) => (Some(bytes.as_slice()), None),
        Some(Outcome::Error { code, message, details }) => {
            (None, Some(json!({ "code": code, "message": message, "details": details }).to_string()))
        }
    };
    let sql = "UPDATE commands SET state = ?2, attempt = ?3, lease_id = ?4, lease_expires_at = ?5, finished_at = ?6,
        response = ?7, error = ?8 WHERE number = ?1 AND finished_at IS NULL";
    connection.prepare_cached(sql)?.execute(params![
        command.number,
        command.state.as_str(),
        command.attempt,
        command.lease.as_ref().map(|lease| &lease.id),
        command.lease.as_ref().map(|lease| lease.expires_at as i64),
        command.finished_at.map(|at| at as i64),
        response,
        error,
    ])?;
    Ok(())
}

fn forget(connection: &Connection, before: Millis, most: usize) -> Result<usize> {
    let sql = "DELETE FROM commands WHERE number IN
        (SELECT number FROM commands WHERE finished_at IS NOT NULL AND finished_at < ?1 LIMIT ?2)";
    connection.prepare_cached(sql)?.execute(params![before as i64, most as i64])
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
