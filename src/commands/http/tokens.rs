//! Tokens, for administrators.

use super::access::Caller;
use super::commands::moment;
use super::extract::{Asked, Named};
use super::{Answer, Manager, Refusals};
use crate::commands::broker::{Failure, to_its_end};
use crate::commands::clock::now;
use crate::commands::tokens::{Record, Role, Scope};
use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A hundred years.
const LONGEST: u64 = 100 * 365 * 24 * 3600;

/// `POST /v1/tokens`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewToken)]
pub struct Wanted {
    /// `receive`, `invoke` or `admin`.
    #[schema(pattern = "^(receive|invoke|admin)$")]
    role: String,
    deployment_id: Option<String>,
    resource_id: Option<String>,
    /// For ever, where it says nothing.
    #[schema(maximum = 3_153_600_000u64)]
    expires_in_seconds: Option<u64>,
}

/// A token as it is told: never the token itself, but when it was just made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
pub struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    id: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

fn told(record: &Record, token: Option<String>) -> Told {
    Told {
        token,
        id: record.id.clone(),
        role: record.scope.role().as_str(),
        deployment_id: record.scope.deployment().map(str::to_owned),
        resource_id: record.scope.resource().map(str::to_owned),
        created_at: moment(record.created_at),
        expires_at: record.expires_at.map(moment),
    }
}

fn role(name: &str) -> Result<Role, Answer> {
    Role::parse(name).ok_or_else(|| Answer::invalid("role is receive, invoke or admin"))
}

/// Makes a token. It is told this once only.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "tokens",
    request_body = Wanted,
    responses((status = CREATED, body = Told), Refusals),
    security(("token" = [])),
)]
pub async fn create(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Told>), Answer> {
    caller.must_administer()?;
    let Json(wanted) = body?;
    let role = role(&wanted.role)?;
    let scope = Scope::new(role, wanted.deployment_id, wanted.resource_id).map_err(Answer::invalid)?;
    if wanted.expires_in_seconds.is_some_and(|seconds| seconds > LONGEST) {
        return Err(Answer::invalid(format!(
            "expiresInSeconds is at most {LONGEST}; one that it is left out of is for ever"
        )));
    }
    let now = now();
    let expires_at = wanted.expires_in_seconds.map(|seconds| now + seconds * 1000);
    let made =
        to_its_end(async move { manager.tokens.create(manager.store.as_ref(), scope, now, expires_at).await }).await;
    let (token, record) = made.map_err(Failure::Broken)?;
    Ok((StatusCode::CREATED, Json(told(&record, Some(token)))))
}

/// The tokens that there are; not the tokens themselves.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "tokens",
    responses((status = OK, body = All), Refusals),
    security(("token" = [])),
)]
pub async fn list(Shared(manager): Shared<Arc<Manager>>, caller: Caller) -> Result<Json<All>, Answer> {
    caller.must_administer()?;
    let tokens: Vec<Told> = manager.tokens.list().iter().map(|record| told(record, None)).collect();
    Ok(Json(All { tokens }))
}

/// The oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tokens)]
pub struct All {
    tokens: Vec<Told>,
}

/// Revokes a token.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path, description = "tok_…, not the token itself")),
    responses((status = NO_CONTENT, description = "There is no such token any more"), Refusals),
    security(("token" = [])),
)]
pub async fn revoke(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<StatusCode, Answer> {
    caller.must_administer()?;
    let revoked = to_its_end(async move { manager.tokens.revoke(manager.store.as_ref(), &id).await }).await;
    match revoked.map_err(Failure::Broken)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Answer::new(StatusCode::NOT_FOUND, "TOKEN_NOT_FOUND", "there is no such token")),
    }
}

/// `?role&deploymentId&resourceId`: a daemon's or a deployment's, when it goes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// `receive`, `invoke` or `admin`.
    #[param(pattern = "^(receive|invoke|admin)$")]
    role: String,
    deployment_id: String,
    resource_id: Option<String>,
}

/// Revokes all tokens of a role in a deployment, for one daemon or for all.
#[utoipa::path(
    delete,
    path = "/v1/tokens",
    tag = "tokens",
    params(Which),
    responses((status = OK, body = Revoked), Refusals),
    security(("token" = [])),
)]
pub async fn revoke_all(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Result<Json<Revoked>, Answer> {
    caller.must_administer()?;
    let role = role(&which.role)?;
    let revoked = to_its_end(async move {
        let (deployment, resource) = (which.deployment_id.as_str(), which.resource_id.as_deref());
        manager.tokens.revoke_all(manager.store.as_ref(), role, deployment, resource).await
    });
    Ok(Json(Revoked { revoked: revoked.await.map_err(Failure::Broken)? }))
}

/// How many there were.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revoked {
    revoked: usize,
}
