//! What is on disk, by whichever version it was written.

use alien_core::commands::store::{Sqlite, Store};
use rusqlite::Connection;
use std::sync::Arc;

/// The tables as version 1 had them, with a command that has a result and one that waits.
const VERSION_1: &str = "
    CREATE TABLE commands (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, deployment TEXT NOT NULL, target_id TEXT NOT NULL,
        target_type TEXT NOT NULL, name TEXT NOT NULL, params BLOB NOT NULL, created_at INTEGER NOT NULL, deadline INTEGER,
        idempotency_key TEXT, traceparent TEXT, state TEXT NOT NULL, attempt INTEGER NOT NULL, lease_id TEXT,
        lease_expires_at INTEGER, finished_at INTEGER, response BLOB, error TEXT
    );
    CREATE INDEX commands_open ON commands (number) WHERE finished_at IS NULL;
    CREATE INDEX commands_finished ON commands (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX commands_idempotency ON commands (deployment, idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX commands_deployment ON commands (deployment, number);
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, hash BLOB NOT NULL, role TEXT NOT NULL, deployment TEXT, resource TEXT,
        created_at INTEGER NOT NULL, expires_at INTEGER
    ) WITHOUT ROWID;
    INSERT INTO commands (id, deployment, target_id, target_type, name, params, created_at, state, attempt)
        VALUES ('cmd_waits', 'edge', 'worker', 'daemon', 'go', x'31', 1, 'PENDING', 1);
    INSERT INTO commands (id, deployment, target_id, target_type, name, params, created_at, state, attempt, finished_at, response)
        VALUES ('cmd_ended', 'edge', 'worker', 'daemon', 'go', x'32', 2, 'SUCCEEDED', 1, 3, x'33');
    PRAGMA user_version = 1;
";

#[test]
fn an_older_database_is_brought_forward_after_a_copy_was_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("commands.db");
    Connection::open(&file).and_then(|connection| connection.execute_batch(VERSION_1)).expect("version 1");

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let inside = runtime.enter();
    let store = Sqlite::open(&file, u64::MAX, Arc::default()).expect("brought forward");
    drop(inside);
    let (open, ended, results) = runtime
        .block_on(async { (store.open_commands().await, store.find("cmd_ended").await, store.stored_results().await) });
    let open = open.expect("open commands");
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id.as_str(), &*open[0].params, open[0].upload), ("cmd_waits", b"1".as_slice(), None));
    let ended = ended.expect("a read").expect("a command");
    assert!(matches!(&ended.outcome, Some(alien_core::commands::command::Outcome::Success(bytes)) if bytes == b"3"));
    assert!(results.expect("results").is_empty());

    let backup = Connection::open(folder.path().join("commands.version-1.backup")).expect("the copy");
    let version: i64 = backup.pragma_query_value(None, "user_version", |row| row.get(0)).expect("its version");
    let count: i64 = backup.query_row("SELECT count(*) FROM commands", [], |row| row.get(0)).expect("its rows");
    assert_eq!((version, count), (1, 2));
}
