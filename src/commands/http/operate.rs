//! For who operates the manager.

use super::access::Caller;
use super::extract::Named;
use super::{Answer, Error, Manager, Refusals};
use crate::commands::broker::Failure;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

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
    params(("deployment" = String, Path), ("resource" = String, Path)),
    responses((status = OK, body = TakenBack), Refusals),
    security(("token" = [])),
)]
pub async fn ended(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named((deployment, resource)): Named<(String, String)>,
) -> Result<Json<TakenBack>, Answer> {
    caller.must_administer()?;
    let taken_back = manager.broker.receiver_ended(&(deployment, resource)).await?;
    Ok(Json(TakenBack { taken_back }))
}

/// Commands that wait again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    taken_back: usize,
}
