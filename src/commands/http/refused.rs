//! An answer to somebody who is still sending: it goes out at once, and what comes meanwhile is read and dropped for a while.
//! A connection that is closed on its sender takes the answer with it.

use super::Answer;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Whoever has sent nothing for so long has seen the answer.
const SILENCE: Duration = Duration::from_secs(1);
/// And whoever sends for so long does not want to.
const LONGEST: Duration = Duration::from_secs(10);

/// The answer, while `body` is still coming.
pub fn refused(answer: Answer, body: Body) -> Response {
    let (mut parts, whole) = answer.into_response().into_parts();
    // Its end tells that nothing more is read, and comes later than its bytes: it goes in chunks.
    parts.headers.remove(CONTENT_LENGTH);
    let (silence, longest) = (Box::pin(sleep(SILENCE)), Box::pin(sleep(LONGEST)));
    Response::from_parts(parts, Body::new(Lingering { answer: Some(whole), body, silence, longest }))
}

struct Lingering {
    answer: Option<Body>,
    body: Body,
    silence: Pin<Box<Sleep>>,
    longest: Pin<Box<Sleep>>,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Some(answer) = &mut this.answer {
            match Pin::new(answer).poll_frame(context) {
                Poll::Ready(None) => this.answer = None,
                other => return other,
            }
        }
        while let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            match frame {
                Some(Ok(_)) => this.silence.as_mut().reset(Instant::now() + SILENCE),
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
        let over = this.silence.as_mut().poll(context).is_ready() || this.longest.as_mut().poll(context).is_ready();
        if over { Poll::Ready(None) } else { Poll::Pending }
    }
}
