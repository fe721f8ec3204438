//! What a request is answered with when it is not answered.

use super::Error;
use crate::commands::blobs::Refusal;
use crate::commands::broker::Failure;
use crate::commands::command::Refused;
use crate::commands::protocol::State;
use crate::commands::store::Broken;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error as it travels: `{code, message, details?}`.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Value>,
    /// Seconds after which the same may be tried again.
    retry_after: Option<u32>,
}

impl Answer {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Answer { status, code, message: message.into(), details: None, retry_after: None }
    }

    /// What the caller sent makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Answer::new(StatusCode::BAD_REQUEST, "INVALID_COMMAND", message)
    }

    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    fn again(mut self) -> Self {
        self.retry_after = Some(1);
        self
    }

    /// No token, or none that is known: which of both is not said.
    pub fn unauthorized() -> Self {
        Answer::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "this needs a valid token: Authorization: Bearer TOKEN")
    }

    /// A token that is for something else. What there is elsewhere is not said.
    pub fn forbidden() -> Self {
        Answer::new(StatusCode::FORBIDDEN, "FORBIDDEN", "the token is not for this")
    }

    pub fn too_large() -> Self {
        Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "the request's body is too large")
    }

    /// A body that is said to be there, and is not: it was never put, or what it was for has ended since.
    pub fn unless_put(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => {
                let message = "the body is not there: put it first, where storageUpload or storageUploadRequest says";
                Answer::new(StatusCode::BAD_REQUEST, "PAYLOAD_NOT_FOUND", message)
            }
            other => other.into(),
        }
    }

    pub fn command_not_found() -> Self {
        Answer::new(StatusCode::NOT_FOUND, "COMMAND_NOT_FOUND", "there is no such command, or it has been forgotten")
    }

    pub fn lease_not_found() -> Self {
        let message = "there is no such lease: it has run out, or its command has ended";
        Answer::new(StatusCode::NOT_FOUND, "LEASE_NOT_FOUND", message)
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let conflict = |message: &str| Answer::new(StatusCode::CONFLICT, "CONFLICT", message);
        match failure {
            Failure::NotFound => Answer::command_not_found(),
            Failure::Refused(Refused::StaleLease) => {
                conflict("the lease is not the current one: the command was delivered again, or has ended")
            }
            Failure::Refused(Refused::Ended(State::Expired)) => {
                Answer::new(StatusCode::GONE, "COMMAND_EXPIRED", "the command's deadline has passed")
            }
            Failure::Refused(Refused::Ended(state)) => {
                conflict("the command has ended already").details(json!({ "state": state }))
            }
            Failure::Refused(Refused::WrongState(state)) => {
                let message = format!("a command that is {} does not take that", state.as_str());
                let answer = Answer::new(StatusCode::BAD_REQUEST, "INVALID_STATE_TRANSITION", message);
                answer.details(json!({ "state": state }))
            }
            Failure::Full { pending } => {
                let message = format!("{pending} commands wait for this daemon already: is it running?");
                Answer::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_PENDING", message).again()
            }
            Failure::NoRoom { bytes } => {
                let message = format!(
                    "the database has {bytes} bytes, and takes no new commands with so many (--most-database-bytes): \
                     ended ones are forgotten when their time is over (--retention-days)"
                );
                Answer::new(StatusCode::INSUFFICIENT_STORAGE, "STORE_FULL", message)
            }
            Failure::KeyTaken { id } => {
                conflict("the idempotency key belongs to a command with another name, target or parameters")
                    .details(json!({ "commandId": id }))
            }
            Failure::Broken(broken) => {
                tracing::error!(%broken, "the store");
                let message = "the manager cannot use its store at the moment; its log says why";
                Answer::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message).again()
            }
        }
    }
}

impl From<Broken> for Answer {
    fn from(broken: Broken) -> Self {
        Failure::Broken(broken).into()
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { most } => {
                let message = format!("a body has at most {most} bytes here");
                let answer = Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message);
                answer.details(json!({ "mostBodyBytes": most }))
            }
            Refusal::Full { most } => {
                let message =
                    format!("all bodies together have at most {most} bytes here, and those there leave no room");
                let answer = Answer::new(StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL", message);
                answer.details(json!({ "mostStorageBytes": most }))
            }
            Refusal::NoSpace => {
                tracing::error!("the disk has no room for a body");
                Answer::new(StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL", "the manager's disk has no room for it")
            }
            Refusal::Size { said, came } => {
                let message = format!("the body has {came} bytes or more, and was said to have {said}");
                let message = if came < said { message.replace(" or more", "") } else { message };
                Answer::new(StatusCode::BAD_REQUEST, "SIZE_MISMATCH", message)
                    .details(json!({ "said": said, "came": came }))
            }
            Refusal::Digest => Answer::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_MISMATCH",
                "the body's SHA-256 is not the one that was said",
            ),
            Refusal::Missing => {
                Answer::new(StatusCode::NOT_FOUND, "PAYLOAD_NOT_FOUND", "there is no such body, or it is gone already")
            }
            Refusal::Overtaken => Answer::new(
                StatusCode::CONFLICT,
                "CONFLICT",
                "another upload of the same body, or the end of what it was for, came before this one's end",
            ),
            Refusal::Corrupt(what) => {
                tracing::error!(what, "a body is not what was put there");
                let message = "the body is not on the manager's disk as it was put there; its log says more";
                Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "PAYLOAD_CORRUPT", message)
            }
            Refusal::Broken(why) => {
                tracing::error!(why, "the bodies beside the database");
                let message = "the manager cannot use its store at the moment; its log says why";
                Answer::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message).again()
            }
        }
    }
}

impl From<JsonRejection> for Answer {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Answer::too_large();
        }
        // What a parser says quotes what was sent, which may be secret: only where it was is told.
        let said = rejection.body_text();
        let place = said.rfind(" at line ").map_or("", |at| &said[at..]);
        Answer::invalid(format!("the request's body is not the JSON that this call takes{place}"))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Answer { status, code, message, details, retry_after } = self;
        let mut response = (status, Json(Error { code, message, details })).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub async fn no_such_route() -> Answer {
    Answer::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such call")
}

pub async fn no_such_method() -> Answer {
    Answer::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "there is no such call")
}
