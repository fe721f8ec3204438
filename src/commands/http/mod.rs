//! The routes, and who may take them.
//!
//! | call | invoke | receive | admin |
//! |---|---|---|---|
//! | make, read, list, cancel commands | of its deployment | – | all |
//! | acquire, renew, release leases; results | – | of its daemon | – |
//! | put parameters, fetch results that do not fit a message | of its deployment | – | all |
//! | fetch such parameters, put such results | – | of its daemon | – |
//! | give a result, put and fetch bodies, under a signed address | anybody | anybody | anybody |
//! | that a daemon ended | – | of its daemon | all |
//! | tokens, metrics | – | – | all |
//! | `/healthz`, `/readyz`, `/openapi.json` | anybody | anybody | anybody |

mod access;
mod commands;
mod error;
mod extract;
mod leases;
mod openapi;
mod operate;
mod payload;
mod presigned;
mod ranges;
mod refused;
mod tokens;
mod trace;

pub use error::Answer;
use openapi::{Document, Error, Refusals};

use super::blobs::Blobs;
use super::broker::Broker;
use super::keyring::Tokens;
use super::limits::REQUEST_BODY;
use super::metrics::Metrics;
use super::signing::Signer;
use super::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn;
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Everything that a request is answered from.
pub struct Manager {
    pub broker: Arc<Broker>,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<Blobs>,
    pub tokens: Tokens,
    pub signer: Signer,
    pub metrics: Arc<Metrics>,
    /// `http` or `https`, as its clients have to say where no proxy before it says otherwise.
    pub scheme: &'static str,
}

/// The manager as a service.
pub fn router(manager: Arc<Manager>) -> Router {
    // Not below the layers: what travels there may have any size.
    let (payload, payload_document) =
        OpenApiRouter::new().routes(routes!(payload::put, payload::get)).split_for_parts();
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(commands::create, commands::list))
        .routes(routes!(commands::read))
        .routes(routes!(commands::cancel))
        .routes(routes!(commands::complete))
        .routes(routes!(leases::respond))
        .routes(routes!(leases::acquire))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::release))
        .routes(routes!(operate::ended))
        .routes(routes!(tokens::create, tokens::list, tokens::revoke_all))
        .routes(routes!(tokens::revoke))
        .routes(routes!(operate::healthz))
        .routes(routes!(operate::readyz))
        .routes(routes!(operate::metrics))
        .split_for_parts();
    document.merge(payload_document);
    // The manager's own types always have words.
    let document = document.to_json().unwrap_or_default();
    router
        .route("/openapi.json", get(move || async move { ([(CONTENT_TYPE, "application/json")], document.clone()) }))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(REQUEST_BODY))
        .layer(from_fn(extract::not_too_large))
        .merge(payload.method_not_allowed_fallback(error::no_such_method))
        .with_state(manager)
}
