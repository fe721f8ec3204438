//! The routes, and who may take them.
//!
//! | call | invoke | receive | admin |
//! |---|---|---|---|
//! | make, read, list, cancel commands | of its deployment | – | all |
//! | acquire, renew, release leases; results | – | of its daemon | – |
//! | put parameters, fetch results that do not fit a message | of its deployment | – | all |
//! | fetch such parameters, put such results | – | of its daemon | – |
//! | give a result, put and fetch bodies, under a signed address | anybody | anybody | anybody |
//! | tokens, metrics, that a daemon ended | – | – | all |
//! | `/healthz`, `/readyz` | anybody | anybody | anybody |

mod access;
mod commands;
mod error;
mod extract;
mod leases;
mod operate;
mod payload;
mod presigned;
mod ranges;
mod tokens;

pub use error::Answer;

use super::blobs::Blobs;
use super::broker::Broker;
use super::keyring::Tokens;
use super::limits::REQUEST_BODY;
use super::metrics::Metrics;
use super::signing::Signer;
use super::store::Store;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::{delete, get, post, put};
use std::sync::Arc;

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
    let payload = Router::new()
        .route("/v1/commands/{id}/payload", put(payload::put).get(payload::get))
        .method_not_allowed_fallback(error::no_such_method);
    Router::new()
        .route("/v1/commands", post(commands::create).get(commands::list))
        .route("/v1/commands/{id}", get(commands::read))
        .route("/v1/commands/{id}/cancel", post(commands::cancel))
        .route("/v1/commands/{id}/upload-complete", post(commands::complete))
        .route("/v1/commands/{id}/response", put(leases::respond))
        .route("/v1/commands/leases", post(leases::acquire))
        .route("/v1/commands/leases/{id}/renew", post(leases::renew))
        .route("/v1/commands/leases/{id}/release", post(leases::release))
        .route("/v1/deployments/{deployment}/resources/{resource}/ended", post(operate::ended))
        .route("/v1/tokens", post(tokens::create).get(tokens::list).delete(tokens::revoke_all))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/healthz", get(operate::healthz))
        .route("/readyz", get(operate::readyz))
        .route("/metrics", get(operate::metrics))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(REQUEST_BODY))
        .layer(from_fn(extract::not_too_large))
        .merge(payload)
        .with_state(manager)
}
