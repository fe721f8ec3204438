//! The tables, and the way from an older version of them to this one: forwards only, after a copy was made.

use rusqlite::{Connection, Result};
use std::path::Path;

/// One step for each version. A step that was released is never changed.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE commands (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        deployment TEXT NOT NULL,
        target_id TEXT NOT NULL,
        target_type TEXT NOT NULL,
        name TEXT NOT NULL,
        params BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        deadline INTEGER,
        idempotency_key TEXT,
        traceparent TEXT,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        lease_id TEXT,
        lease_expires_at INTEGER,
        finished_at INTEGER,
        response BLOB,
        error TEXT
    );
    CREATE INDEX commands_open ON commands (number) WHERE finished_at IS NULL;
    CREATE INDEX commands_finished ON commands (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX commands_idempotency ON commands (deployment, idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX commands_deployment ON commands (deployment, number);
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        role TEXT NOT NULL,
        deployment TEXT,
        resource TEXT,
        created_at INTEGER NOT NULL,
        expires_at INTEGER
    ) WITHOUT ROWID;
",
    // The rest of a trace, and bodies beside the database. `params_sha256` is empty while parameters are still to come; `response_lease` is under
    // which lease the result was put there.
    "
    ALTER TABLE commands ADD COLUMN tracestate TEXT;
    ALTER TABLE commands ADD COLUMN params_size INTEGER;
    ALTER TABLE commands ADD COLUMN params_sha256 BLOB;
    ALTER TABLE commands ADD COLUMN response_lease TEXT;
    ALTER TABLE commands ADD COLUMN response_size INTEGER;
    ALTER TABLE commands ADD COLUMN response_sha256 BLOB;
    CREATE INDEX commands_stored ON commands (number) WHERE response_lease IS NOT NULL;
",
];

/// Brings the tables to this version.
///
/// # Errors
/// Where they are of a later version, which this program must not touch.
pub fn migrate(connection: &mut Connection, file: &Path) -> Result<()> {
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? as usize;
    if version > STEPS.len() {
        let message = format!("{} is of a later version ({version}) than this program knows", file.display());
        return Err(rusqlite::Error::ToSqlConversionFailure(message.into()));
    }
    if version > 0 && version < STEPS.len() {
        let copy = file.with_extension(format!("version-{version}.backup"));
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    }
    for (at, step) in STEPS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", (at + 1) as i64)?;
        transaction.commit()?;
    }
    Ok(())
}
