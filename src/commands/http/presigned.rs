//! Addresses of bodies: signed, so that whoever has one needs no token, and whole, so that it may be handed on.

use super::Manager;
use super::commands::moment;
use crate::commands::clock::now;
use crate::commands::protocol::{Backend, PresignedRequest};
use crate::commands::signing::Operation;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Where the manager is, as whoever asks has reached it: `http://host:port/prefix`; empty where the request does not say.
///
/// A request that lies about it gets addresses that lead elsewhere, and nobody else gets those.
pub struct Origin(String);

impl FromRequestParts<Arc<Manager>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager>) -> Result<Self, Infallible> {
        Ok(Origin::of(&parts.headers, manager.scheme))
    }
}

impl Origin {
    fn of(headers: &HeaderMap, scheme: &str) -> Origin {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_host = |host: &&str| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
        };
        let Some(host) = header(HOST.as_str()).filter(is_host) else { return Origin(String::new()) };
        // What ends TLS before us, or begins it, says so.
        let forwarded = header("x-forwarded-proto").map(str::to_ascii_lowercase);
        let forwarded = forwarded.as_deref().filter(|proto| ["http", "https"].contains(proto));
        // And what takes the beginning of the path away; or the client, which knows what it asked for.
        let is_path = |path: &&str| {
            path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte))
        };
        let prefix = header("x-forwarded-prefix").and_then(|prefixes| prefixes.split(',').next());
        let prefix = prefix.map(|prefix| prefix.trim().trim_end_matches('/')).filter(is_path);
        Origin(format!("{}://{host}{}", forwarded.unwrap_or(scheme), prefix.unwrap_or_default()))
    }

    /// A request that lets do that, for an hour.
    pub fn presign(&self, manager: &Manager, operation: Operation, command: &str, lease: &str) -> PresignedRequest {
        let (token, expires) = manager.signer.sign(operation, command, lease, now());
        let (method, part) = match operation {
            Operation::PutParams => ("PUT", "params"),
            Operation::GetParams => ("GET", "params"),
            Operation::PutResponse => ("PUT", "response"),
            Operation::GetResponse => ("GET", "response"),
        };
        let lease = if lease.is_empty() { String::new() } else { format!("&lease={lease}") };
        let query = format!("body={part}&payload_token={token}&expires={expires}{lease}");
        PresignedRequest {
            backend: Backend {
                kind: "http",
                url: format!("{}/v1/commands/{command}/payload?{query}", self.0),
                method,
                headers: BTreeMap::new(),
            },
            expiration: moment(expires * 1000),
            operation: if method == "PUT" { "put" } else { "get" },
            path: format!("commands/{command}/{part}"),
        }
    }
}
