//! Rows of the tables as what they mean.

use crate::commands::clock::Millis;
use crate::commands::command::{Command, Lease, Outcome, Stored, Upload};
use crate::commands::protocol::{State, Target};
use crate::commands::tokens::{Record, Role, Scope};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use serde_json::Value;

/// The columns of a command, in the order in which `read` takes them.
pub const ALL: &str = "number, id, deployment, target_id, target_type, name, params, created_at, deadline, \
    idempotency_key, traceparent, state, attempt, lease_id, lease_expires_at, finished_at, response, error, \
    params_size, params_sha256, response_lease, response_size, response_sha256, tracestate";
/// The same without what may be large.
pub const BRIEF: &str = "number, id, deployment, target_id, target_type, name, x'', created_at, deadline, \
    idempotency_key, traceparent, state, attempt, lease_id, lease_expires_at, finished_at, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, tracestate";

/// A command, from the columns of [`ALL`].
pub fn read(row: &Row<'_>) -> Result<Command> {
    let millis = |at: usize| Ok::<_, Error>(row.get::<_, Option<i64>>(at)?.map(|millis| millis as Millis));
    let state: String = row.get(11)?;
    let state = State::parse(&state).ok_or_else(|| malformed(11, &state))?;
    let lease = match (row.get::<_, Option<String>>(13)?, millis(14)?) {
        (Some(id), Some(expires_at)) => Some(Lease { id, expires_at }),
        _ => None,
    };
    Ok(Command {
        number: row.get(0)?,
        id: row.get(1)?,
        deployment: row.get(2)?,
        target: Target { resource_id: row.get(3)?, resource_type: row.get(4)? },
        name: row.get(5)?,
        params: row.get::<_, Vec<u8>>(6)?.into(),
        upload: upload(row)?,
        created_at: millis(7)?.unwrap_or_default(),
        deadline: millis(8)?,
        idempotency_key: row.get(9)?,
        traceparent: row.get(10)?,
        tracestate: row.get(23)?,
        state,
        attempt: row.get(12)?,
        lease,
        finished_at: millis(15)?,
        outcome: outcome(row)?,
    })
}

fn upload(row: &Row<'_>) -> Result<Option<Upload>> {
    let Some(sha256) = row.get::<_, Option<Vec<u8>>>(19)? else { return Ok(None) };
    let sha256 = if sha256.is_empty() { None } else { Some(digest(19, sha256)?) };
    Ok(Some(Upload { size: row.get::<_, Option<i64>>(18)?.map(|size| size as u64), sha256 }))
}

fn digest(column: usize, bytes: Vec<u8>) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| malformed(column, "a digest"))
}

fn outcome(row: &Row<'_>) -> Result<Option<Outcome>> {
    if let Some(lease) = row.get::<_, Option<String>>(20)? {
        let body = Stored { size: row.get::<_, i64>(21)? as u64, sha256: digest(22, row.get(22)?)? };
        return Ok(Some(Outcome::Stored { lease, body }));
    }
    if let Some(bytes) = row.get::<_, Option<Vec<u8>>>(16)? {
        return Ok(Some(Outcome::Success(bytes)));
    }
    let Some(error) = row.get::<_, Option<String>>(17)? else { return Ok(None) };
    let mut error: Value = serde_json::from_str(&error).map_err(|_| malformed(17, "an error"))?;
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let (code, message) = (text("code"), text("message"));
    let details = Some(error["details"].take()).filter(|details| !details.is_null());
    Ok(Some(Outcome::Error { code, message, details }))
}

pub fn read_token(row: &Row<'_>) -> Result<Record> {
    let role: String = row.get(2)?;
    let (deployment, resource) = (row.get::<_, Option<String>>(3)?, row.get::<_, Option<String>>(4)?);
    let scope = Role::parse(&role).and_then(|role| Scope::new(role, deployment, resource).ok());
    let hash: Vec<u8> = row.get(1)?;
    Ok(Record {
        id: row.get(0)?,
        hash: hash.try_into().map_err(|_| malformed(1, "a hash"))?,
        scope: scope.ok_or_else(|| malformed(2, &role))?,
        created_at: row.get::<_, i64>(5)? as Millis,
        expires_at: row.get::<_, Option<i64>>(6)?.map(|at| at as Millis),
    })
}

fn malformed(column: usize, what: &str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, format!("{what:?} is not understood").into())
}
