//! `deployment.logs(id, options)`: a reader with a number, asked for its next lines.

use super::options;
use super::resources::read;
use super::value::{answer, envelope};
use crate::error::Report;
use crate::local::Local;
use crate::local::logs::{Options, Reader};
use crate::model::Raw;
use crate::model::check::{At, Issues, OPTIONS, field};
use napi_derive::napi;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone)]
struct Open {
    reader: Arc<tokio::sync::Mutex<Reader>>,
    close: Arc<watch::Sender<bool>>,
}

static READERS: LazyLock<Mutex<HashMap<u32, Open>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU32 = AtomicU32::new(1);

fn readers() -> std::sync::MutexGuard<'static, HashMap<u32, Open>> {
    READERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes `{options, defaults, id, logs: {tail?, since?, follow?}}`; answers with the reader's number. `since` is
/// milliseconds since 1970.
#[napi(skip_typescript)]
pub async fn logs_open(request: String) -> String {
    answer(|| {
        let request = read(&request)?;
        let part = |key: &str| request.get(key).unwrap_or(&Raw::Undefined);
        let options = options::read(part("options"), part("defaults"))?;
        let wanted = wanted(part("logs"))?;
        let name = options.name.clone().unwrap_or_default();
        let id = part("id").as_str().unwrap_or_default();
        let reader = Local::new(options.local).logs(&name, id, wanted)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let reader = Arc::new(tokio::sync::Mutex::new(reader));
        readers().insert(number, Open { reader, close: Arc::new(watch::Sender::new(false)) });
        Ok(number)
    })
}

fn wanted(raw: &Raw) -> Result<Options, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let known = ["tail", "since", "follow"];
    let fields = match raw {
        Raw::Undefined => &[],
        raw => issues.object_of(&at, raw, &known).unwrap_or(&[]),
    };
    let given = |key: &str| field(fields, key).filter(|raw| !matches!(raw, Raw::Undefined));
    let tail = given("tail").and_then(|raw| issues.integer(&at.key("tail"), raw, 0, u32::MAX));
    let since = match given("since") {
        None => None,
        Some(Raw::Number(ms)) if *ms >= 0.0 => Some(Duration::from_secs_f64(ms / 1000.0)),
        Some(other) => {
            issues.wrong_type(&at.key("since"), "a Date, an RFC 3339 time or milliseconds since 1970", other);
            None
        }
    };
    let follow = given("follow").and_then(|raw| issues.boolean(&at.key("follow"), raw)).unwrap_or(false);
    issues.finish(Some(Options { tail: tail.map(|tail| tail as usize), since, follow }), OPTIONS, None)
}

/// The next lines, as an envelope with an array; waits for one when following. Empty at the end.
#[napi(skip_typescript)]
pub async fn logs_next(number: u32) -> String {
    let Some(open) = readers().get(&number).cloned() else { return envelope(Ok([(); 0])) };
    let mut closed = open.close.subscribe();
    let mut reader = open.reader.lock().await;
    let lines = tokio::select! {
        lines = reader.next() => lines,
        _ = closed.wait_for(|closed| *closed) => Ok(Vec::new()),
    };
    envelope(lines)
}

/// Lets go of a reader; one that waits ends.
#[napi(skip_typescript)]
pub fn logs_close(number: u32) {
    if let Some(open) = readers().remove(&number) {
        let _ = open.close.send(true);
    }
}
