//! For who operates the manager.

use super::access::Caller;
use super::commands::time;
use super::extract::{Asked, Named};
use super::{Answer, Error, Manager, Refusals};
use crate::commands::broker::Failure;
use crate::commands::clock::now;
use crate::commands::tokens::Scope;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// All is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Well {
    ok: bool,
}

/// That the process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operate",
    responses((status = OK, body = Well)),
)]
pub async fn healthz() -> Json<Well> {
    Json(Well { ok: true })
}

/// That it can do its work: the store takes writes.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operate",
    responses((status = OK, body = Well), (status = SERVICE_UNAVAILABLE, body = Error)),
)]
pub async fn readyz(Shared(manager): Shared<Arc<Manager>>) -> Result<Json<Well>, Answer> {
    manager.store.check().await.map_err(Failure::Broken)?;
    Ok(Json(Well { ok: true }))
}

/// OpenMetrics text, as Prometheus reads it.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operate",
    responses((status = OK, body = String, content_type = "application/openmetrics-text"), Refusals),
    security(("token" = [])),
)]
pub async fn metrics(Shared(manager): Shared<Arc<Manager>>, caller: Caller) -> Result<impl IntoResponse, Answer> {
    caller.must_administer()?;
    let text = manager.metrics.text(manager.blobs.used(), manager.broker.depths());
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// A daemon's program has ended: what it had is delivered again at once, without waiting for its leases to run out.
#[utoipa::path(
    post,
    path = "/v1/deployments/{deployment}/resources/{resource}/ended",
    tag = "operate",
    params(("deployment" = String, Path), ("resource" = String, Path), Moment),
    responses((status = OK, body = TakenBack), Refusals),
    security(("token" = [])),
)]
pub async fn ended(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named((deployment, resource)): Named<(String, String)>,
    Asked(moment): Asked<Moment>,
) -> Result<Json<TakenBack>, Answer> {
    if caller.0 != Scope::Admin {
        caller.must_receive(&deployment, &resource)?;
    }
    let at = moment.at.map(|at| time("at", &at)).transpose()?.map_or_else(now, |at| at.min(now()));
    let taken_back = manager.broker.receiver_ended(&(deployment, resource), at).await?;
    Ok(Json(TakenBack { taken_back }))
}

/// `?at=TIME`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Moment {
    /// When it ended, as RFC 3339; now, where it says nothing. What was leased later is another program's, and stays so.
    at: Option<String>,
}

/// Commands that wait again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    taken_back: usize,
}
