//! The store in one SQLite file: a writer of its own thread, and a connection to read with.
//!
//! WAL, so that readers and the writer do not wait for each other; `synchronous=FULL`, so that what was committed is on
//! the disk and not only in the kernel.

use super::rows::{ALL, BRIEF, read, read_token};
use super::writer::{self, Told, Write};
use super::{Broken, Filter, Forgotten, Made, Store, schema};
use crate::commands::clock::Millis;
use crate::commands::command::Command;
use crate::commands::metrics::Metrics;
use crate::commands::protocol::State;
use crate::commands::tokens::{Record, Role};
use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, OpenFlags, OptionalExtension, Result, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

/// A database file.
pub struct Sqlite {
    file: PathBuf,
    writes: Sender<Write>,
    reader: Arc<Mutex<Connection>>,
}

impl Sqlite {
    /// Opens the file, which is made where it is missing, readable by its owner only.
    ///
    /// With `most` bytes it takes no new commands any more. Answers come on the runtime that this is called on.
    ///
    /// # Errors
    /// Where it cannot be, is of a later version, or another manager has it open.
    pub fn open(file: &Path, most: u64, metrics: Arc<Metrics>) -> std::result::Result<Sqlite, Broken> {
        let broken = |error: Error| Broken(format!("{} cannot be opened: {error}", file.display()));
        let mut connection = Connection::open(file).map_err(broken)?;
        let setup = |connection: &mut Connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            // Two managers with one file would each think that what they know is all there is.
            connection.pragma_update(None, "locking_mode", "NORMAL")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cache_size", -2048)?;
            // What a statement does is decided once, and not again for each value that is put into it.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.set_prepared_statement_cache_capacity(32);
            schema::migrate(connection, file)
        };
        setup(&mut connection).map_err(broken)?;
        let reader =
            Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let reader = reader.map_err(broken)?;
        reader.busy_timeout(Duration::from_secs(5)).map_err(broken)?;
        reader.pragma_update(None, "cache_size", -1024).map_err(broken)?;
        let (writes, received) = channel();
        let thread = std::thread::Builder::new().name("store".to_owned()).stack_size(256 * 1024);
        let (told, mut commits) = unbounded_channel::<Told>();
        tokio::spawn(async move {
            while let Some(commit) = commits.recv().await {
                metrics.committed(commit.took);
                commit.pass_on();
            }
        });
        let started = thread.spawn(move || writer::run(connection, most, &received, &told));
        started.map_err(|error| Broken(format!("no thread for the database: {error}")))?;
        Ok(Sqlite { file: file.to_owned(), writes, reader: Arc::new(Mutex::new(reader)) })
    }

    async fn write<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<std::result::Result<T, Broken>>) -> Write,
    ) -> std::result::Result<T, Broken> {
        let gone = || Broken(format!("{} could not be written", self.file.display()));
        let (reply, answer) = oneshot::channel();
        self.writes.send(make(reply)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Broken> {
        let (reader, file) = (Arc::clone(&self.reader), self.file.clone());
        let work = move || work(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        let broken = |why: String| Broken(format!("{} cannot be read: {why}", file.display()));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|error| broken(error.to_string())),
            Err(error) => Err(broken(error.to_string())),
        }
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn open_commands(&self) -> std::result::Result<Vec<Command>, Broken> {
        self.read(|connection| {
            let sql = format!("SELECT {ALL} FROM commands WHERE finished_at IS NULL ORDER BY number");
            connection.prepare(&sql)?.query_map([], read)?.collect()
        })
        .await
    }

    async fn create(&self, command: Command) -> std::result::Result<Made, Broken> {
        self.write(|reply| Write::Create(Box::new(command), reply)).await
    }

    async fn keyed(&self, command: &Command) -> std::result::Result<Option<Command>, Broken> {
        let command = command.clone();
        self.read(move |connection| writer::same(connection, &command)).await
    }

    async fn uploaded(&self, command: &Command) -> std::result::Result<(), Broken> {
        self.write(|reply| Write::Uploaded(Box::new(command.clone()), reply)).await
    }

    async fn finish(&self, command: &Command) -> std::result::Result<(), Broken> {
        self.write(|reply| Write::Finish(Box::new(command.clone()), reply)).await
    }

    fn note(&self, command: &Command) {
        // Where the writer is gone, the next who waits is told.
        let _ = self.writes.send(Write::Note(Box::new(command.clone())));
    }

    async fn find(&self, id: &str) -> std::result::Result<Option<Command>, Broken> {
        let id = id.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {ALL} FROM commands WHERE id = ?1");
            connection.prepare_cached(&sql)?.query_row([id], read).optional()
        })
        .await
    }

    async fn list(&self, filter: Filter) -> std::result::Result<Vec<Command>, Broken> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {BRIEF} FROM commands WHERE (?1 IS NULL OR deployment = ?1) AND (?2 IS NULL OR target_id = ?2) \
                 AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR number < ?4) ORDER BY number DESC LIMIT ?5"
            );
            let state = filter.state.map(State::as_str);
            let words = params![filter.deployment, filter.target, state, filter.before, filter.limit as i64];
            connection.prepare_cached(&sql)?.query_map(words, read)?.collect()
        })
        .await
    }

    async fn forget(&self, before: Millis, most: usize) -> std::result::Result<Forgotten, Broken> {
        self.write(|reply| Write::Forget(before, most, reply)).await
    }

    async fn stored_results(&self) -> std::result::Result<Vec<(String, String)>, Broken> {
        self.read(|connection| {
            let sql = "SELECT id, response_lease FROM commands WHERE response_lease IS NOT NULL ORDER BY number";
            connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    async fn tokens(&self) -> std::result::Result<Vec<Record>, Broken> {
        self.read(|connection| {
            let sql = "SELECT id, hash, role, deployment, resource, created_at, expires_at FROM tokens ORDER BY created_at, id";
            connection.prepare(sql)?.query_map([], read_token)?.collect()
        })
        .await
    }

    async fn add_token(&self, record: Record) -> std::result::Result<(), Broken> {
        self.write(|reply| Write::AddToken(Box::new(record), reply)).await
    }

    async fn remove_token(&self, id: &str) -> std::result::Result<bool, Broken> {
        self.write(|reply| Write::RemoveToken(id.to_owned(), reply)).await
    }

    async fn remove_tokens(
        &self,
        role: Role,
        deployment: &str,
        resource: Option<&str>,
    ) -> std::result::Result<Vec<String>, Broken> {
        let (deployment, resource) = (deployment.to_owned(), resource.map(str::to_owned));
        self.write(|reply| Write::RemoveTokens(role, deployment, resource, reply)).await
    }

    async fn check(&self) -> std::result::Result<(), Broken> {
        self.write(Write::Check).await
    }
}
