//! The routes as a document (OpenAPI 3.1): generated from what they take and give, and served at `/openapi.json`.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

/// What is common to all calls.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "alien-manager",
        description = "Commands for daemons: made by callers, kept until somebody has handled them. Protocol arc.v1.",
    ),
    tags(
        (name = "commands", description = "The caller's side"),
        (name = "leases", description = "The receiver's side"),
        (name = "payload", description = "Bodies that do not fit a message, under signed addresses"),
        (name = "tokens", description = "Who may do what; for administrators"),
        (name = "operate", description = "For who operates the manager"),
    ),
    components(schemas(Error)),
    modifiers(&Bearer),
)]
pub struct Document;

/// `Authorization: Bearer TOKEN`.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// An error as it travels.
#[derive(Debug, Serialize, ToSchema)]
pub struct Error {
    /// For programs: `COMMAND_NOT_FOUND`.
    pub code: &'static str,
    /// For people.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// What every call may be refused with.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            (StatusCode::BAD_REQUEST, "What was sent makes no sense, or not for a command as it is"),
            (StatusCode::UNAUTHORIZED, "No token, or none that is known"),
            (StatusCode::FORBIDDEN, "The token, or the signed address, is for something else"),
            (StatusCode::NOT_FOUND, "There is no such thing, or none that the token is for"),
            (StatusCode::REQUEST_TIMEOUT, "The body stopped before its end"),
            (
                StatusCode::CONFLICT,
                "Somebody else was first: another lease, another result, another command with that key",
            ),
            (StatusCode::GONE, "The deadline has passed"),
            (StatusCode::PAYLOAD_TOO_LARGE, "The body has more bytes than may be"),
            (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many commands wait for that daemon; Retry-After says when to try again",
            ),
            (StatusCode::SERVICE_UNAVAILABLE, "The store cannot be used at the moment"),
            (StatusCode::INSUFFICIENT_STORAGE, "There is no room"),
        ];
        let response = |description: &str| {
            let content = Content::new(Some(Ref::from_schema_name("Error")));
            ResponseBuilder::new().description(description).content("application/json", content).build()
        };
        all.into_iter().map(|(status, words)| (status.as_u16().to_string(), RefOr::T(response(words)))).collect()
    }
}
