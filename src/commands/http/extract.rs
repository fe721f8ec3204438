//! What a request holds besides its body, refused in the way of all other errors. axum's own words quote what was sent,
//! which may be secret.

use super::Answer;
use crate::commands::limits::REQUEST_BODY;
use axum::body::HttpBody;
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use std::future::poll_fn;
use std::pin::Pin;

/// What stands behind the question mark.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Answer> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(query)| Asked(query)).map_err(|_| Answer::invalid("the query is not one that this call takes"))
    }
}

/// What of the path has no fixed name.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(names)| Named(names)).map_err(|_| Answer::invalid("the path is not one that this call takes"))
    }
}

/// A body that is too large by its own account is read and dropped, up to this: whoever is cut off while it sends does not
/// see the answer.
const DROPPED: u64 = 16 * 1024 * 1024;

/// Refuses what is too large before anything else is done.
pub async fn not_too_large(request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_none_or(|length| length <= REQUEST_BODY as u64) {
        return next.run(request).await;
    }
    if length.is_some_and(|length| length <= DROPPED) {
        let mut body = request.into_body();
        while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
    }
    Answer::too_large().into_response()
}
