//! The caller's side: making commands, and seeing what becomes of them.

use super::access::Caller;
use super::extract::{Asked, Named};
use super::leases::differs;
use super::presigned::Origin;
use super::trace::trace;
use super::{Answer, Manager, Refusals};
use crate::commands::blobs::Key;
use crate::commands::broker::{Failure, Seen, to_its_end};
use crate::commands::clock::{Millis, now};
use crate::commands::command::{Command, Outcome, Refused, Stored, Upload};
use crate::commands::limits::{LONGEST_WAIT, PAGE};
use crate::commands::protocol::{
    Body, Completed, Create, Created, INLINE_LIMIT, Page, PresignedRequest, Response, State, Target, View,
};
use crate::commands::signing::{Operation, hex, unhex};
use crate::commands::store::Filter;
use crate::commands::tokens::Scope;
use crate::sys::time::rfc3339;
use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// The longest name of a command, and the longest idempotency key, in bytes.
const NAME_MAX: usize = 256;

/// `?wait=SECONDS`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Seconds for which the answer may wait for the command to end; at most 60 count.
    #[param(minimum = 0)]
    wait: Option<f64>,
}

impl Wait {
    /// A command once it has ended, or as it is when the time is over.
    async fn on(&self, manager: &Manager, caller: &Caller, seen: Seen) -> Result<Seen, Answer> {
        let time = wait("wait", self.wait.unwrap_or_default())?;
        if seen.command.state.is_terminal() || time.is_zero() {
            return Ok(seen);
        }
        let seen = manager.broker.wait(&seen.command.id, time).await?;
        caller.must_still_be(manager)?;
        Ok(seen)
    }
}

/// Seconds as a time that a request may wait.
pub fn wait(what: &str, seconds: f64) -> Result<Duration, Answer> {
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(Answer::invalid(format!("{what} is a number of seconds, 0 or more")));
    }
    Ok(Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
}

/// `POST /v1/commands`: 201 with the new command, 200 with the one that has the idempotency key. With `wait`, answered
/// once it has ended, or the time is over.
#[utoipa::path(
    post,
    path = "/v1/commands",
    tag = "commands",
    params(Wait),
    request_body = Create,
    responses(
        (status = CREATED, body = Created, description = "A new command"),
        (status = OK, body = Created, description = "The command that was made with this idempotency key"),
        Refusals,
    ),
    security(("token" = [])),
)]
pub async fn create(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    Asked(wait): Asked<Wait>,
    headers: HeaderMap,
    body: Result<Json<Create>, JsonRejection>,
) -> Result<(StatusCode, Json<Created>), Answer> {
    let Json(create) = body?;
    caller.must_invoke(&create.deployment_id)?;
    let command = command(&manager, create, &headers)?;
    let id = command.id.clone();
    let seen = make(&manager, command).await?;
    let status = if seen.command.id == id { StatusCode::CREATED } else { StatusCode::OK };
    let (seen, storage_upload, next) = if seen.command.state == State::PendingUpload {
        let upload = origin.presign(&manager, Operation::PutParams, &seen.command.id, "");
        (seen, Some(upload), "upload")
    } else {
        let seen = wait.on(&manager, &caller, seen).await?;
        let next = if seen.command.state.is_terminal() { "done" } else { "poll" };
        (seen, None, next)
    };
    let view = view(&manager, &origin, &seen);
    Ok((status, Json(Created { view, storage_upload, inline_allowed_up_to: INLINE_LIMIT, next })))
}

/// Makes a command; where its parameters are still to come, there is room for them then.
async fn make(manager: &Arc<Manager>, command: Command) -> Result<Seen, Answer> {
    let Some(upload) = command.upload else { return Ok(manager.broker.create(command).await?) };
    let (manager, id) = (Arc::clone(manager), command.id.clone());
    to_its_end(async move {
        manager.blobs.promise(&Key::params(&id), upload.size)?;
        let made = manager.broker.create(command).await;
        // Not kept, or another's with the same idempotency key.
        if !made.as_ref().is_ok_and(|seen| seen.command.id == id) {
            manager.blobs.remove(&id, |_| false);
        }
        Ok(made?)
    })
    .await
}

/// `POST /v1/commands/{id}/upload-complete`: the parameters are there, and may be given to the daemon. Saying it twice is
/// as good as once. With `wait`, answered once the command has ended, or the time is over.
#[utoipa::path(
    post,
    path = "/v1/commands/{id}/upload-complete",
    tag = "commands",
    params(("id" = String, Path, description = "cmd_<uuid>"), Wait),
    request_body = Option<Completed>,
    responses((status = OK, body = View), Refusals),
    security(("token" = [])),
)]
pub async fn complete(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    Named(id): Named<String>,
    Asked(wait): Asked<Wait>,
    body: Result<Option<Json<Completed>>, JsonRejection>,
) -> Result<Json<View>, Answer> {
    let said = body?.map_or_else(Completed::default, |Json(said)| said);
    let said = (said.size, sha256(said.sha256.as_deref())?);
    let seen = visible(&manager, &caller, &id).await?;
    let its = Arc::clone(&manager);
    let seen = to_its_end(async move { completed(&its, seen, said).await }).await?;
    Ok(Json(view(&manager, &origin, &wait.on(&manager, &caller, seen).await?)))
}

async fn completed(
    manager: &Manager,
    seen: Seen,
    (size, sha256): (Option<u64>, Option<[u8; 32]>),
) -> Result<Seen, Answer> {
    let command = &seen.command;
    if let Some(stored) = command.upload.as_ref().and_then(Upload::stored) {
        return differs(&stored, size, sha256).map_or(Ok(seen), |refusal| Err(refusal.into()));
    }
    if command.state != State::PendingUpload {
        let ended = command.state.is_terminal();
        let refused = if ended { Refused::Ended(command.state) } else { Refused::WrongState(command.state) };
        return Err(Failure::Refused(refused).into());
    }
    let key = Key::params(&command.id);
    let body = manager.blobs.seal(&key).await.map_err(Answer::unless_put)?;
    let done = match differs(&body, size, sha256) {
        Some(refusal) => Err(refusal.into()),
        None => manager.broker.uploaded(&command.id, body).await.map_err(Answer::from),
    };
    // Two that say it at once may each find the other's work done.
    match manager.broker.find(&command.id).await {
        Ok(found) if found.command.upload.as_ref().and_then(Upload::stored) == Some(body) => Ok(found),
        _ => done.inspect_err(|_| manager.blobs.unseal(&key)),
    }
}

/// A SHA-256 in hexadecimal.
///
/// # Errors
/// 400 where it is none.
pub fn sha256(text: Option<&str>) -> Result<Option<[u8; 32]>, Answer> {
    let Some(text) = text else { return Ok(None) };
    let digest = unhex(text).and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or_else(|| Answer::invalid("sha256 is 64 digits in hexadecimal"))
}

/// A new command, checked.
fn command(manager: &Manager, create: Create, headers: &HeaderMap) -> Result<Command, Answer> {
    let now = now();
    let sized = |what: &str, text: &str| match text.len() {
        1..=NAME_MAX => Ok(()),
        _ => Err(Answer::invalid(format!("{what} has 1 to {NAME_MAX} bytes"))),
    };
    sized("command", &create.command)?;
    if let Some(key) = &create.idempotency_key {
        sized("idempotencyKey", key)?;
    }
    let deadline = create.deadline.map(|text| time("deadline", &text)).transpose()?;
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Err(Answer::new(StatusCode::GONE, "COMMAND_EXPIRED", "the deadline has passed already"));
    }
    let (params, upload) = match create.params {
        None => (b"null".to_vec(), None),
        Some(Body::Inline { inline_base64 }) => (bytes("params", &inline_base64)?, None),
        Some(Body::Storage { size, .. }) => (Vec::new(), Some(Upload { size, sha256: None })),
    };
    let (traceparent, tracestate) = trace(headers);
    Ok(Command {
        id: format!("cmd_{}", uuid::Uuid::now_v7()),
        number: 0,
        target: target(manager, &create.deployment_id, create.target_resource_id, now)?,
        deployment: create.deployment_id,
        name: create.command,
        params: params.into(),
        upload,
        created_at: now,
        deadline,
        idempotency_key: create.idempotency_key,
        traceparent,
        tracestate,
        state: if upload.is_some() { State::PendingUpload } else { State::Pending },
        attempt: 1,
        lease: None,
        outcome: None,
        finished_at: None,
    })
}

/// Which daemon is meant: the one named, else the only one that takes commands.
fn target(manager: &Manager, deployment: &str, named: Option<String>, now: Millis) -> Result<Target, Answer> {
    let there = manager.tokens.targets(deployment, now);
    let of = |resource_id: &str| Target { resource_id: resource_id.to_owned(), resource_type: "daemon".to_owned() };
    let list = || there.join(", ");
    match (&named, there.as_slice()) {
        (_, []) => Err(Answer::invalid(format!("no daemon of deployment {deployment:?} takes commands"))),
        (Some(named), _) if there.contains(named) => Ok(of(named)),
        (Some(named), _) => Err(Answer::invalid(format!("{named:?} takes no commands; those that do: {}", list()))),
        (None, [only]) => Ok(of(only)),
        (None, _) => Err(Answer::invalid(format!("targetResourceId says which of them is meant: {}", list()))),
    }
}

/// A moment that was sent.
pub fn time(what: &str, text: &str) -> Result<Millis, Answer> {
    let wrong = |_| Answer::invalid(format!("{what} is a time as RFC 3339 has it: 2026-05-17T09:30:00Z"));
    let time: jiff::Timestamp = text.parse().map_err(wrong)?;
    Ok(Millis::try_from(time.as_millisecond()).unwrap_or_default())
}

/// The bytes of a body that came in a message.
pub fn bytes(what: &str, inline_base64: &str) -> Result<Vec<u8>, Answer> {
    let bytes =
        STANDARD.decode(inline_base64).map_err(|_| Answer::invalid(format!("{what}.inlineBase64 is no base64")))?;
    if bytes.len() > INLINE_LIMIT {
        let message = format!(
            "{what} has {} bytes; a message takes {INLINE_LIMIT}, what has more goes by mode storage",
            bytes.len()
        );
        return Err(Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
            .details(json!({ "bytes": bytes.len(), "inlineAllowedUpTo": INLINE_LIMIT })));
    }
    Ok(bytes)
}

/// `GET /v1/commands/{id}`: with `wait`, answered once it has ended, or the time is over.
#[utoipa::path(
    get,
    path = "/v1/commands/{id}",
    tag = "commands",
    params(("id" = String, Path, description = "cmd_<uuid>"), Wait),
    responses((status = OK, body = View), Refusals),
    security(("token" = [])),
)]
pub async fn read(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    Named(id): Named<String>,
    Asked(wait): Asked<Wait>,
) -> Result<Json<View>, Answer> {
    let seen = visible(&manager, &caller, &id).await?;
    Ok(Json(view(&manager, &origin, &wait.on(&manager, &caller, seen).await?)))
}

/// `POST /v1/commands/{id}/cancel`: one that has ended stays as it is, and is no error where it was cancelled.
#[utoipa::path(
    post,
    path = "/v1/commands/{id}/cancel",
    tag = "commands",
    params(("id" = String, Path, description = "cmd_<uuid>")),
    responses((status = OK, body = View), Refusals),
    security(("token" = [])),
)]
pub async fn cancel(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    Named(id): Named<String>,
) -> Result<Json<View>, Answer> {
    let seen = visible(&manager, &caller, &id).await?;
    let cancelled = seen.command.state == State::Cancelled;
    let seen = if cancelled { seen } else { manager.broker.cancel(&id).await? };
    Ok(Json(view(&manager, &origin, &seen)))
}

/// A command that the caller may see; for others there is none.
async fn visible(manager: &Manager, caller: &Caller, id: &str) -> Result<Seen, Answer> {
    if matches!(caller.0, Scope::Receive { .. }) {
        return Err(Answer::forbidden());
    }
    let seen = manager.broker.find(id).await?;
    if caller.0.may_invoke(&seen.command.deployment) { Ok(seen) } else { Err(Failure::NotFound.into()) }
}

/// `?deploymentId&target&state&limit&cursor`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// May be left out where the token is for one.
    deployment_id: Option<String>,
    /// A daemon's id.
    target: Option<String>,
    state: Option<State>,
    /// Commands in a page: at most 200.
    #[param(minimum = 0)]
    limit: Option<usize>,
    /// From the page before.
    cursor: Option<i64>,
}

/// `GET /v1/commands`: the newest first, without results.
#[utoipa::path(
    get,
    path = "/v1/commands",
    tag = "commands",
    params(Wanted),
    responses((status = OK, body = Page), Refusals),
    security(("token" = [])),
)]
pub async fn list(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Page>, Answer> {
    let deployment = match (&caller.0, wanted.deployment_id) {
        (_, Some(deployment)) => {
            caller.must_invoke(&deployment)?;
            Some(deployment)
        }
        (Scope::Invoke { deployment }, None) => Some(deployment.clone()),
        (Scope::Admin, None) => None,
        (Scope::Receive { .. }, None) => return Err(Answer::forbidden()),
    };
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let filter = Filter { deployment, target: wanted.target, state: wanted.state, before: wanted.cursor, limit };
    // Who has a command may not have been written yet.
    manager.store.check().await.map_err(Failure::Broken)?;
    let commands = manager.store.list(filter).await.map_err(Failure::Broken)?;
    let cursor = commands.last().filter(|_| commands.len() == limit).map(|last| last.number.to_string());
    let seen = |command: Command| view(&manager, &origin, &Seen { command: Arc::new(command), progress: None });
    Ok(Json(Page { commands: commands.into_iter().map(seen).collect(), cursor }))
}

/// A moment as RFC 3339.
pub fn moment(millis: Millis) -> String {
    rfc3339(Duration::from_millis(millis))
}

/// A command as it is told.
fn view(manager: &Manager, origin: &Origin, seen: &Seen) -> View {
    let command = &seen.command;
    View {
        command_id: command.id.clone(),
        state: command.state,
        attempt: command.attempt,
        command: command.name.clone(),
        target: command.target.clone(),
        created_at: moment(command.created_at),
        deadline: command.deadline.map(moment),
        finished_at: command.finished_at.map(moment),
        progress: seen.progress.clone(),
        response: command.outcome.as_ref().map(|outcome| match outcome {
            Outcome::Success(bytes) => Response::Success { response: inline(bytes) },
            Outcome::Stored { body, .. } => {
                let request = origin.presign(manager, Operation::GetResponse, &command.id, "");
                Response::Success { response: beside(body, request) }
            }
            Outcome::Error { code, message, details } => {
                Response::Error { code: code.clone(), message: message.clone(), details: details.clone() }
            }
        }),
    }
}

/// A command's parameters, as its receiver gets them.
pub fn params_body(manager: &Manager, origin: &Origin, command: &Command) -> Body {
    match command.upload.as_ref().and_then(Upload::stored) {
        Some(body) => beside(&body, origin.presign(manager, Operation::GetParams, &command.id, "")),
        None => inline(&command.params),
    }
}

fn beside(body: &Stored, request: PresignedRequest) -> Body {
    Body::Storage {
        size: Some(body.size),
        sha256: Some(hex(&body.sha256)),
        storage_get_request: Some(request),
        storage_put_used: None,
    }
}

/// Bytes as a body in a message.
fn inline(bytes: &[u8]) -> Body {
    Body::Inline { inline_base64: STANDARD.encode(bytes) }
}
