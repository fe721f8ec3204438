//! The receiver's side: taking commands, and answering them.

use super::access::Caller;
use super::commands::{bytes, moment, params_body, sha256, wait};
use super::extract::{Asked, Named};
use super::presigned::Origin;
use super::{Answer, Manager, Refusals};
use crate::commands::blobs::{Key, Refusal};
use crate::commands::broker::{Failure, Seen, to_its_end};
use crate::commands::clock::now;
use crate::commands::command::{Command, Outcome, Stored};
use crate::commands::limits::{LEASE_SECONDS, MOST_LEASES, PROGRESS};
use crate::commands::protocol::{
    Acquire, Body, Envelope, INLINE_LIMIT, Lease, Leases, PROTOCOL, Renew, Renewed, Response, ResponseHandling, State,
};
use crate::commands::signing::Operation;
use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// The longest code and message of an error, in bytes.
const CODE_MAX: usize = 128;
const MESSAGE_MAX: usize = 16_384;

/// `POST /v1/commands/leases`: the daemon's next commands, or none once the wait is over.
#[utoipa::path(
    post,
    path = "/v1/commands/leases",
    tag = "leases",
    request_body = Acquire,
    responses((status = OK, body = Leases), Refusals),
    security(("token" = [])),
)]
pub async fn acquire(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    origin: Origin,
    body: Result<Json<Acquire>, JsonRejection>,
) -> Result<Json<Leases>, Answer> {
    let Json(acquire) = body?;
    caller.must_receive(&acquire.deployment_id, &acquire.target.resource_id)?;
    let key = (acquire.deployment_id, acquire.target.resource_id);
    let most = acquire.max_leases.clamp(1, MOST_LEASES);
    let handed = manager
        .broker
        .acquire(&key, most, seconds(acquire.lease_seconds)?, wait("waitSeconds", acquire.wait_seconds)?)
        .await;
    if !handed.is_empty()
        && let Err(revoked) = caller.must_still_be(&manager)
    {
        for lease in handed.iter().filter_map(|command| command.lease.as_ref()) {
            // In memory of its own: it is rare, and twice as large as the waiting of a fleet.
            Box::pin(manager.broker.release(&lease.id)).await?;
        }
        return Err(revoked);
    }
    Ok(Json(Leases { leases: handed.iter().filter_map(|command| lease(&manager, &origin, command)).collect() }))
}

/// How long a lease is.
fn seconds(seconds: u64) -> Result<Duration, Answer> {
    if LEASE_SECONDS.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Answer::invalid(format!("leaseSeconds is {} to {}", LEASE_SECONDS.start(), LEASE_SECONDS.end())))
}

fn lease(manager: &Manager, origin: &Origin, command: &Command) -> Option<Lease> {
    let lease = command.lease.as_ref()?;
    let query = manager.signer.query(&command.id, now());
    Some(Lease {
        lease_id: lease.id.clone(),
        lease_expires_at: moment(lease.expires_at),
        command_id: command.id.clone(),
        attempt: command.attempt,
        envelope: Envelope {
            protocol: PROTOCOL,
            deployment_id: command.deployment.clone(),
            target: command.target.clone(),
            command_id: command.id.clone(),
            attempt: command.attempt,
            deadline: command.deadline.map(moment),
            command: command.name.clone(),
            params: params_body(manager, origin, command),
            response_handling: ResponseHandling {
                max_inline_bytes: INLINE_LIMIT,
                submit_response_url: format!("/v1/commands/{}/response?{query}&lease={}", command.id, lease.id),
                storage_upload_request: origin.presign(manager, Operation::PutResponse, &command.id, &lease.id),
            },
            traceparent: command.traceparent.clone(),
            tracestate: command.tracestate.clone(),
        },
    })
}

/// `POST /v1/commands/leases/{id}/renew`: more time, and whether the result is still wanted.
#[utoipa::path(
    post,
    path = "/v1/commands/leases/{id}/renew",
    tag = "leases",
    params(("id" = String, Path, description = "lease_<uuid>")),
    request_body = Option<Renew>,
    responses((status = OK, body = Renewed), Refusals),
    security(("token" = [])),
)]
pub async fn renew(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named(id): Named<String>,
    body: Result<Option<Json<Renew>>, JsonRejection>,
) -> Result<Json<Renewed>, Answer> {
    let renew = body?.map_or_else(Renew::default, |Json(renew)| renew);
    must_hold(&manager, &caller, &id)?;
    let too_large = |progress: &Value| progress.to_string().len() > PROGRESS;
    if renew.progress.as_ref().is_some_and(too_large) {
        return Err(Answer::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BODY_TOO_LARGE",
            format!("progress takes {PROGRESS} bytes"),
        ));
    }
    let more = seconds(renew.lease_seconds)?;
    let (expires_at, cancelled) =
        manager.broker.renew(&id, more, renew.progress, wait("waitSeconds", renew.wait_seconds)?).await?;
    Ok(Json(Renewed { lease_expires_at: moment(expires_at), cancelled }))
}

/// `POST /v1/commands/leases/{id}/release`: the command waits again.
#[utoipa::path(
    post,
    path = "/v1/commands/leases/{id}/release",
    tag = "leases",
    params(("id" = String, Path, description = "lease_<uuid>")),
    responses((status = OK, body = Released), Refusals),
    security(("token" = [])),
)]
pub async fn release(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<Released>, Answer> {
    must_hold(&manager, &caller, &id)?;
    manager.broker.release(&id).await?;
    Ok(Json(Released {}))
}

/// The lease is no more.
#[derive(Debug, Serialize, ToSchema)]
pub struct Released {}

/// # Errors
/// 404 for a lease that is not there, or is another daemon's.
fn must_hold(manager: &Manager, caller: &Caller, lease: &str) -> Result<(), Answer> {
    let holder = manager.broker.holder(lease);
    let ours = holder.filter(|(deployment, resource)| caller.0.may_receive(deployment, resource));
    if ours.is_none() && caller.0.resource().is_none() {
        return Err(Answer::forbidden());
    }
    ours.map(drop).ok_or_else(Answer::lease_not_found)
}

/// `?response_token&expires&lease`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Signed {
    response_token: Option<String>,
    expires: Option<u64>,
    lease: Option<String>,
}

/// `PUT /v1/commands/{id}/response`: the result, from whoever has the signed address or the daemon's token.
#[utoipa::path(
    put,
    path = "/v1/commands/{id}/response",
    tag = "leases",
    params(("id" = String, Path, description = "cmd_<uuid>"), Signed),
    request_body = Response,
    responses((status = OK, body = Responded), Refusals),
    security((), ("token" = [])),
)]
pub async fn respond(
    Shared(manager): Shared<Arc<Manager>>,
    Named(id): Named<String>,
    Asked(signed): Asked<Signed>,
    caller: Result<Caller, Answer>,
    body: Result<Json<Response>, JsonRejection>,
) -> Result<Json<Responded>, Answer> {
    let by_address = signed.response_token.as_deref().zip(signed.expires);
    if !by_address.is_some_and(|(token, expires)| manager.signer.allows(&id, token, expires, now())) {
        let caller = caller?;
        let command = manager.broker.find(&id).await.ok().map(|seen| seen.command);
        let ours = |command: &Arc<Command>| caller.0.may_receive(&command.deployment, &command.target.resource_id);
        if !command.as_ref().is_some_and(ours) {
            return Err(if caller.0.resource().is_some() { Answer::command_not_found() } else { Answer::forbidden() });
        }
    }
    let lease = signed.lease;
    let state = match body?.0 {
        Response::Success { response: Body::Inline { inline_base64 } } => {
            let bytes = bytes("response", &inline_base64)?;
            manager.broker.respond(&id, lease.as_deref(), Outcome::Success(bytes)).await?.command.state
        }
        Response::Success { response: Body::Storage { size, sha256: said, .. } } => {
            let said = (size, sha256(said.as_deref())?);
            let (manager, id) = (Arc::clone(&manager), id.clone());
            to_its_end(async move { stored(&manager, &id, lease, said).await }).await?.command.state
        }
        Response::Error { code, message, details } => {
            if code.is_empty() || code.len() > CODE_MAX || message.len() > MESSAGE_MAX {
                let message =
                    format!("an error has a code of 1 to {CODE_MAX} bytes and a message of at most {MESSAGE_MAX}");
                return Err(Answer::invalid(message));
            }
            let outcome = Outcome::Error { code, message, details };
            manager.broker.respond(&id, lease.as_deref(), outcome).await?.command.state
        }
    };
    Ok(Json(Responded { command_id: id, state }))
}

/// How a command has ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Responded {
    command_id: String,
    state: State,
}

/// Ends a command with the result that was put beside the database under its lease.
async fn stored(
    manager: &Manager,
    id: &str,
    lease: Option<String>,
    (size, sha256): (Option<u64>, Option<[u8; 32]>),
) -> Result<Seen, Answer> {
    let command = manager.broker.find(id).await?.command;
    command.takes_result(lease.as_deref()).map_err(Failure::Refused)?;
    // A receiver that knows no leases means the one that it has.
    let current = || command.lease.as_ref().map(|lease| lease.id.clone()).unwrap_or_default();
    let lease = lease.unwrap_or_else(current);
    let key = Key::response(id, &lease);
    let body = manager.blobs.seal(&key).await.map_err(Answer::unless_put)?;
    let ended = match differs(&body, size, sha256) {
        Some(refusal) => Err(refusal.into()),
        None => {
            let outcome = Outcome::Stored { lease: lease.clone(), body };
            manager.broker.respond(id, Some(&lease), outcome).await.map_err(Answer::from)
        }
    };
    ended.inspect_err(|_| manager.blobs.unseal(&key))
}

/// What is there is not what was said to be.
pub fn differs(body: &Stored, size: Option<u64>, sha256: Option<[u8; 32]>) -> Option<Refusal> {
    let other = size.filter(|said| *said != body.size).map(|said| Refusal::Size { said, came: body.size });
    other.or_else(|| sha256.filter(|said| *said != body.sha256).map(|_| Refusal::Digest))
}
