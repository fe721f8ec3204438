//! Bodies that do not fit a message: put and fetched piece by piece, under signed addresses. A token that is for the same
//! does as well: a handler may take longer than the hour for which its addresses are good.

use super::access::Caller;
use super::extract::{Asked, Named};
use super::ranges::{self, Wanted};
use super::refused::refused;
use super::{Answer, Error, Manager, Refusals};
use crate::commands::blobs::{Key, Refusal};
use crate::commands::broker::{Failure, to_its_end};
use crate::commands::clock::now;
use crate::commands::command::{Command, Outcome, Refused, Stored, Upload};
use crate::commands::limits::PIECE;
use crate::commands::metrics::Metrics;
use crate::commands::protocol::State;
use crate::commands::signing::{Operation, Unsigned, hex};
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State as Shared;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};
use utoipa::{IntoParams, ToSchema};

/// `?body&payload_token&expires&lease`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Address {
    #[param(inline)]
    body: Which,
    #[serde(default)]
    payload_token: String,
    #[serde(default)]
    expires: u64,
    #[serde(default)]
    lease: String,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PayloadBody)]
enum Which {
    Params,
    Response,
}

impl Address {
    /// The command, where the address is signed for that, or whoever asks has a token for it.
    ///
    /// # Errors
    /// 403 for all others, whether there is such a command or not.
    async fn command(
        &self,
        manager: &Manager,
        operation: Operation,
        id: &str,
        caller: Result<Caller, Answer>,
    ) -> Result<Arc<Command>, Answer> {
        let signed = manager.signer.check(operation, id, &self.lease, &self.payload_token, self.expires, now());
        let Err(unsigned) = signed else { return Ok(manager.broker.find(id).await?.command) };
        if let Ok(caller) = caller
            && let Ok(seen) = manager.broker.find(id).await
            && is_for(&caller, operation, &seen.command)
        {
            return Ok(seen.command);
        }
        let (code, message) = match unsigned {
            Unsigned::Foreign => (
                "SIGNATURE_INVALID",
                "the address is not one that this manager has signed for this, nor is the token for it",
            ),
            Unsigned::Late => (
                "SIGNATURE_EXPIRED",
                "the address was good for an hour, which is over; asking for the command gives a new one",
            ),
        };
        Err(Answer::new(StatusCode::FORBIDDEN, code, message))
    }
}

/// Whether somebody's token is for that: callers bring parameters and fetch results, receivers the other way round.
fn is_for(caller: &Caller, operation: Operation, command: &Command) -> bool {
    match operation {
        Operation::PutParams | Operation::GetResponse => caller.0.may_invoke(&command.deployment),
        Operation::GetParams | Operation::PutResponse => {
            caller.0.may_receive(&command.deployment, &command.target.resource_id)
        }
    }
}

/// `PUT /v1/commands/{id}/payload`: a body, instead of one that was put there before. It is on the disk when this answers.
#[utoipa::path(
    put,
    path = "/v1/commands/{id}/payload",
    tag = "payload",
    params(("id" = String, Path, description = "cmd_<uuid>"), Address),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = OK, body = Put), Refusals),
    security((), ("token" = [])),
)]
pub async fn put(
    Shared(manager): Shared<Arc<Manager>>,
    Named(id): Named<String>,
    Asked(address): Asked<Address>,
    caller: Result<Caller, Answer>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    let mut begun = false;
    match take(&manager, &id, &address, caller, &headers, &mut body, &mut begun).await {
        Ok(stored) => Json(told(&stored)).into_response(),
        Err(answer) => {
            // Who waits to be told to go on has sent nothing yet.
            let sends = begun || !headers.contains_key(EXPECT);
            if sends { refused(answer, body) } else { answer.into_response() }
        }
    }
}

async fn take(
    manager: &Manager,
    id: &str,
    address: &Address,
    caller: Result<Caller, Answer>,
    headers: &HeaderMap,
    body: &mut Body,
    begun: &mut bool,
) -> Result<Stored, Answer> {
    let (operation, key) = match address.body {
        Which::Params => (Operation::PutParams, Key::params(id)),
        Which::Response => (Operation::PutResponse, Key::response(id, &address.lease)),
    };
    let command = address.command(manager, operation, id, caller).await?;
    let sha256 = ranges::said(headers)?;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let declared = match address.body {
        Which::Params => command.upload.and_then(|upload| upload.size),
        Which::Response => None,
    };
    if let Some((said, came)) = declared.zip(length).filter(|(said, came)| said != came) {
        return Err(Refusal::Size { said, came }.into());
    }
    takes(&command, address)?;
    let mut upload = manager.blobs.begin(key, declared.or(length))?;
    // Once more: a command that ends from here on takes what is there of its bodies along.
    takes(&manager.broker.find(id).await?.command, address)?;
    *begun = true;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(|_| {
            let message = "the body stopped before its end";
            Answer::new(StatusCode::REQUEST_TIMEOUT, "BODY_INCOMPLETE", message)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        manager.metrics.received(piece.len());
        upload.write(&piece).await?;
    }
    // Whoever goes away now may hear of it later.
    to_its_end(async move { upload.finish(sha256).await.map_err(Answer::from) }).await
}

/// Whether a command takes that body now.
fn takes(command: &Command, address: &Address) -> Result<(), Answer> {
    let taken = match address.body {
        Which::Response => command.takes_result(Some(&address.lease)),
        Which::Params if command.state == State::PendingUpload => Ok(()),
        Which::Params if command.state.is_terminal() => Err(Refused::Ended(command.state)),
        Which::Params => Err(Refused::WrongState(command.state)),
    };
    taken.map_err(|refused| Failure::Refused(refused).into())
}

/// A body as its upload is answered.
fn told(stored: &Stored) -> Put {
    Put { size: stored.size, sha256: hex(&stored.sha256) }
}

/// What is on the disk now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stored)]
struct Put {
    /// Bytes.
    size: u64,
    /// In hexadecimal.
    sha256: String,
}

/// `GET /v1/commands/{id}/payload`: a body, or of it the range that is wanted.
#[utoipa::path(
    get,
    path = "/v1/commands/{id}/payload",
    tag = "payload",
    params(("id" = String, Path, description = "cmd_<uuid>"), Address),
    responses(
        (status = OK, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = RANGE_NOT_SATISFIABLE, body = Error),
        Refusals,
    ),
    security((), ("token" = [])),
)]
pub async fn get(
    Shared(manager): Shared<Arc<Manager>>,
    Named(id): Named<String>,
    Asked(address): Asked<Address>,
    caller: Result<Caller, Answer>,
    headers: HeaderMap,
) -> Result<Response, Answer> {
    let operation = match address.body {
        Which::Params => Operation::GetParams,
        Which::Response => Operation::GetResponse,
    };
    let command = address.command(&manager, operation, &id, caller).await?;
    let (key, stored) = there(&command, address.body).ok_or(Refusal::Missing)?;
    let mut file = manager.blobs.read(&key, stored.size).await?;
    let tag = format!("\"{}\"", hex(&stored.sha256));
    let (status, first, length) = match ranges::wanted(&headers, stored.size, &tag) {
        Wanted::All => (StatusCode::OK, 0, stored.size),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::None => {
            let answer = Answer::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "RANGE_NOT_SATISFIABLE",
                format!("the body has {} bytes", stored.size),
            );
            let mut response = answer.into_response();
            insert(&mut response, CONTENT_RANGE, format!("bytes */{}", stored.size));
            return Ok(response);
        }
    };
    if first > 0 {
        file.seek(SeekFrom::Start(first)).await.map_err(|error| Refusal::Broken(error.to_string()))?;
    }
    file.set_max_buf_size(PIECE);
    let reading = Reading { file, left: length, buffer: Vec::new(), metrics: Arc::clone(&manager.metrics) };
    let mut response = (status, Body::new(reading)).into_response();
    insert(&mut response, CONTENT_TYPE, "application/octet-stream".to_owned());
    insert(&mut response, CONTENT_LENGTH, length.to_string());
    insert(&mut response, ACCEPT_RANGES, "bytes".to_owned());
    insert(&mut response, ETAG, tag);
    response.headers_mut().insert("repr-digest", value(ranges::digest(&stored.sha256)));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut response, CONTENT_RANGE, format!("bytes {first}-{}/{}", first + length - 1, stored.size));
    }
    Ok(response)
}

/// Which file a command's body is, and what it should hold. Parameters are there until the command has ended.
fn there(command: &Command, which: Which) -> Option<(Key, Stored)> {
    match (which, &command.outcome) {
        (Which::Params, _) if !command.state.is_terminal() => {
            let stored = command.upload.as_ref().and_then(Upload::stored)?;
            Some((Key::params(&command.id), stored))
        }
        (Which::Response, Some(Outcome::Stored { lease, body })) => Some((Key::response(&command.id, lease), *body)),
        _ => None,
    }
}

fn insert(response: &mut Response, name: axum::http::HeaderName, text: String) {
    response.headers_mut().insert(name, value(text));
}

/// What we say of sizes and digests is ASCII.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A file as an answer's body: as fast as it is taken, and never more than a piece of it in memory.
struct Reading {
    file: File,
    left: u64,
    buffer: Vec<u8>,
    metrics: Arc<Metrics>,
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(this.left).unwrap_or(PIECE).min(PIECE);
        this.buffer.resize(most, 0);
        let mut buffer = ReadBuf::new(&mut this.buffer);
        if let Err(error) = ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer)) {
            tracing::error!(%error, "a body cannot be read");
            return Poll::Ready(Some(Err(error)));
        }
        let count = buffer.filled().len();
        if count == 0 {
            // Cut short on the disk: so is the answer, and whoever reads it sees that.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.left -= count as u64;
        this.metrics.sent(count);
        let mut piece = std::mem::take(&mut this.buffer);
        piece.truncate(count);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
