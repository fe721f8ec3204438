//! For who operates the manager.

use super::access::Caller;
use super::extract::Named;
use super::{Answer, Manager};
use crate::commands::broker::Failure;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;

/// That the process answers.
pub async fn healthz() -> Json<Value> {
    Json(json!({ "ok": true }))
}

/// That it can do its work: the store takes writes.
pub async fn readyz(Shared(manager): Shared<Arc<Manager>>) -> Result<Json<Value>, Answer> {
    manager.store.check().await.map_err(Failure::Broken)?;
    Ok(Json(json!({ "ok": true })))
}

pub async fn metrics(Shared(manager): Shared<Arc<Manager>>, caller: Caller) -> Result<impl IntoResponse, Answer> {
    caller.must_administer()?;
    let text = manager.metrics.text(manager.blobs.used(), manager.broker.depths());
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// A daemon's program has ended: what it had is delivered again at once, without waiting for its leases to run out.
pub async fn ended(
    Shared(manager): Shared<Arc<Manager>>,
    caller: Caller,
    Named((deployment, resource)): Named<(String, String)>,
) -> Result<Json<Value>, Answer> {
    caller.must_administer()?;
    let taken_back = manager.broker.receiver_ended(&(deployment, resource)).await?;
    Ok(Json(json!({ "takenBack": taken_back })))
}
