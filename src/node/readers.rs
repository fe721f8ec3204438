//! `deployment.logs(id, options)` and `deployment.watch(options)`: readers, asked for what comes next.
//!
//! `readerOpen` checks the request and gives a number; the place is asked with the first `readerNext`, so that
//! `readerClose` ends that too.

use super::handles::Handles;
use super::request::{Asked, place};
use super::value::{answer, envelope};
use crate::engine::logs::{self, LogReader, Options};
use crate::engine::platform::StatusWatch;
use crate::engine::{DeploymentStatus, Platform};
use crate::error::Report;
use crate::model::Raw;
use crate::model::check::{At, Issues, OPTIONS, field};
use napi_derive::napi;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

#[derive(Clone)]
struct Open {
    reader: Arc<Mutex<Reader>>,
    close: Arc<watch::Sender<bool>>,
}

static READERS: Handles<Open> = Handles::new();

/// What is read.
enum Reader {
    LogsToOpen { platform: Box<dyn Platform>, deployment: String, id: String, wanted: Wanted },
    Logs(Box<dyn LogReader>),
    WatchToOpen { platform: Box<dyn Platform>, deployment: String },
    Watch(Box<dyn StatusWatch>),
}

/// Which lines of a log.
#[derive(Clone)]
struct Wanted {
    options: Options,
    until: Option<Duration>,
}

/// Takes `{options, defaults, id, logs: {tail?, since?, until?, follow?, previous?}}` for a log, `{options, defaults}` for
/// the status; answers with the reader's number. `since` and `until` are milliseconds since 1970.
#[napi(skip_typescript)]
pub fn reader_open(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        let (deployment, id) = (asked.deployment()?, asked.text("id"));
        let wanted = match asked.part("logs") {
            Raw::Undefined => None,
            raw => Some(wanted(raw)?),
        };
        let platform = place(asked.options, None)?;
        let reader = match wanted {
            Some(wanted) => Reader::LogsToOpen { platform, deployment, id, wanted },
            None => Reader::WatchToOpen { platform, deployment },
        };
        Ok(READERS.put(Open { reader: Arc::new(Mutex::new(reader)), close: Arc::new(watch::Sender::new(false)) }))
    })
}

fn wanted(raw: &Raw) -> Result<Wanted, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let fields = issues.object_of(&at, raw, &["tail", "since", "until", "follow", "previous"]).unwrap_or(&[]);
    let tail = field(fields, "tail").and_then(|raw| issues.integer(&at.key("tail"), raw, 0, u32::MAX));
    let mut moment = |key| match field(fields, key) {
        None => None,
        Some(Raw::Number(ms)) if *ms >= 0.0 => Some(Duration::from_secs_f64(ms / 1000.0)),
        Some(other) => {
            issues.wrong_type(&at.key(key), "a Date, an RFC 3339 time or milliseconds since 1970", other);
            None
        }
    };
    let (since, until) = (moment("since"), moment("until"));
    let mut flag = |key| field(fields, key).and_then(|raw| issues.boolean(&at.key(key), raw)).unwrap_or(false);
    let (follow, previous) = (flag("follow"), flag("previous"));
    if follow && previous {
        let issue = issues.add(&at.key("previous"), "custom", "the run before has ended: it cannot be followed");
        issue.hint = Some("leave out follow, or previous".to_owned());
    }
    let options = Options { tail: tail.map(|tail| tail as usize), since, follow, previous };
    issues.finish(Some(Wanted { options, until }), OPTIONS, None)
}

impl Reader {
    /// What comes next, as an envelope with an array; an empty one at the end.
    async fn next(&mut self) -> String {
        if let Err(report) = self.open().await {
            return envelope::<()>(Err(report));
        }
        match self {
            Reader::Logs(reader) => envelope(reader.next().await),
            Reader::Watch(watch) => envelope(watch.next().await.map(Vec::from_iter)),
            _ => nothing(),
        }
    }

    async fn open(&mut self) -> Result<(), Report> {
        let opened = match self {
            Reader::LogsToOpen { platform, deployment, id, wanted: Wanted { options, until } } => {
                Reader::Logs(logs::open(platform.as_ref(), deployment, id, options.clone(), *until).await?)
            }
            Reader::WatchToOpen { platform, deployment } => Reader::Watch(platform.watch(deployment).await?),
            Reader::Logs(_) | Reader::Watch(_) => return Ok(()),
        };
        *self = opened;
        Ok(())
    }
}

fn nothing() -> String {
    envelope(Ok::<[DeploymentStatus; 0], _>([]))
}

/// What comes next, as an envelope with an array; waits for it. Empty at the end.
#[napi(skip_typescript)]
pub async fn reader_next(number: u32) -> String {
    let Some(open) = READERS.get(number) else { return nothing() };
    let mut closed = open.close.subscribe();
    let mut reader = open.reader.lock().await;
    tokio::select! {
        text = reader.next() => text,
        _ = closed.wait_for(|closed| *closed) => nothing(),
    }
}

/// Lets go of a reader; one that waits ends.
#[napi(skip_typescript)]
pub fn reader_close(number: u32) {
    if let Some(open) = READERS.take(number) {
        let _ = open.close.send(true);
    }
}
