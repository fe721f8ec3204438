//! The engine's calls: begun here, followed and awaited from JavaScript, cancelled at any time.
//!
//! A call has a number. `engineBegin` starts it and gives that; `engineEvents` gives the events since the last time,
//! as they come, and `null` once there will be none; `engineResult` gives the envelope; `engineCancel` ends it early.
//! Events are fetched rather than pushed, so that all of them are seen before the result, in every realm, and nothing
//! keeps Node's event loop alive but the promises that somebody awaits.

use super::options::{self, Options};
use super::resources::read;
use super::value::{answer, envelope};
use crate::engine::{self, Event, Events, Request};
use crate::error::Report;
use crate::local::Local;
use crate::model::check::{self, At, Issues, OPTIONS};
use crate::model::{Platform, Raw, Stack};
use crate::preflight;
use napi_derive::napi;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Text that is JSON already: large plans are written once.
type Json = Box<RawValue>;

/// A call under way.
struct Call {
    /// Taken by the one reader.
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Json>>>,
    result: Option<oneshot::Receiver<String>>,
    cancel: watch::Sender<bool>,
}

static CALLS: LazyLock<Mutex<HashMap<u32, Call>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU32 = AtomicU32::new(1);

fn calls() -> std::sync::MutexGuard<'static, HashMap<u32, Call>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be done, read and checked before anything begins.
enum Operation {
    Plan(Request),
    Deploy(Request),
    Status(String),
    Restart(String, String),
    Destroy(String, bool),
    List,
}

/// Takes `{operation, options, defaults, stack?, id?, data?}`; answers with the call's number.
#[napi(skip_typescript)]
pub fn engine_begin(request: String) -> String {
    answer(|| {
        let request = read(&request)?;
        let part = |key: &str| request.get(key).unwrap_or(&Raw::Undefined);
        let options = options::read(part("options"), part("defaults"))?;
        let operation = operation(&request, &options)?;
        if let Operation::Plan(request) | Operation::Deploy(request) = &operation {
            can_run(&request.stack, options.platform)?;
        }
        Ok(begin(operation, options))
    })
}

fn operation(request: &Raw, options: &Options) -> Result<Operation, Report> {
    let stack = || Stack::from_raw(request.get("stack").unwrap_or(&Raw::Undefined));
    let text = |key: &str| request.get(key).and_then(Raw::as_str).unwrap_or_default().to_owned();
    let with_stack = || {
        let stack = stack()?;
        let name = options.name.clone().unwrap_or_else(|| stack.id.clone());
        unknown_secrets(&stack, options)?;
        Ok::<_, Report>(Request { name, stack, secrets: options.secrets.clone() })
    };
    let name = || options.name.clone().ok_or_else(nameless);
    Ok(match text("operation").as_str() {
        "plan" => Operation::Plan(with_stack()?),
        "deploy" => Operation::Deploy(with_stack()?),
        "status" => Operation::Status(name()?),
        "restart" => Operation::Restart(name()?, text("id")),
        "destroy" => Operation::Destroy(name()?, matches!(request.get("data"), Some(Raw::Bool(true)))),
        _ => Operation::List,
    })
}

/// A call about a deployment that does not say which.
fn nameless() -> Report {
    let mut issues = Issues::default();
    issues.missing(&At::ROOT.key("name")).hint =
        Some("name the deployment; by default that is its stack's id".to_owned());
    check::report(issues.0, OPTIONS, None)
}

/// A secret for a daemon that is not there would silently go nowhere.
fn unknown_secrets(stack: &Stack, options: &Options) -> Result<(), Report> {
    let daemons: Vec<&str> = stack.daemons().map(|daemon| daemon.id.as_str()).collect();
    match options.secrets.keys().find(|id| !daemons.contains(&id.as_str())) {
        Some(id) => {
            Err(Report::new("UNKNOWN_DAEMON", format!("secrets are given for {id:?}, which is no daemon of the stack"))
                .status(400)
                .hint(format!("its daemons are: {}", daemons.join(", "))))
        }
        None => Ok(()),
    }
}

/// Platforms without an engine here still get their preflight, which says why for most.
fn can_run(stack: &Stack, platform: Platform) -> Result<(), Report> {
    if platform == Platform::Local {
        return Ok(());
    }
    let report = preflight::run(stack, platform);
    if !report.ok {
        return Err(engine::preflight_failed(report));
    }
    Err(Report::new(
        "PLATFORM_NOT_AVAILABLE",
        format!("this version of @alienplatform/core cannot deploy to {platform} yet"),
    )
    .status(501)
    .hint("deploy with platform \"local\"; preflight covers every platform"))
}

fn begin(operation: Operation, options: Options) -> u32 {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (tell, events) = mpsc::unbounded_channel();
    let (give, result) = oneshot::channel();
    let (cancel, cancelled) = watch::channel(false);
    let events = Arc::new(tokio::sync::Mutex::new(events));
    calls().insert(number, Call { events, result: Some(result), cancel });
    napi::bindgen_prelude::spawn(async move {
        // A task of its own, so that a panic in it is an answer and not a promise that never settles.
        let work = tokio::spawn(bounded(operation, options, tell, cancelled));
        let result = work.await.unwrap_or_else(|error| {
            let message = format!("A bug in @alienplatform/core: {error}");
            Err(Report::new("INTERNAL_ERROR", message).hint("please report it, with the stack that caused it"))
        });
        let _ = give.send(envelope(result));
    });
    number
}

/// Runs the operation until it is done, its time is over or it is cancelled. What it was doing is dropped then: every
/// step leaves things whole at each point where it waits.
async fn bounded(
    operation: Operation,
    options: Options,
    tell: mpsc::UnboundedSender<Json>,
    mut cancelled: watch::Receiver<bool>,
) -> Result<Json, Report> {
    let doing: Arc<Mutex<Option<String>>> = Arc::default();
    let last = Arc::clone(&doing);
    let events = Events::new(move |event| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = in_words(&event);
        if let Ok(event) = to_raw_value(&event) {
            let _ = tell.send(event);
        }
    });
    let timeout = options.timeout;
    let local = Local::new(options.local);
    let doing = || match doing.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(doing) => format!("; it was {doing}"),
        None => String::new(),
    };
    tokio::select! {
        result = run(&local, &operation, &events) => result,
        () = tokio::time::sleep(timeout) => {
            let message = format!("not done within {} s{}", timeout.as_secs_f64(), doing());
            Err(Report::new("TIMEOUT", message).retryable().status(504).hint("give it longer with timeoutMs (--timeout SECONDS)"))
        }
        _ = cancelled.wait_for(|cancelled| *cancelled) => {
            Err(Report::new("CANCELLED", format!("cancelled{}", doing())).status(499))
        }
    }
}

async fn run(local: &Local, operation: &Operation, events: &Events) -> Result<Json, Report> {
    use crate::engine::Platform as _;
    let written = match operation {
        Operation::Plan(request) => to_raw_value(&engine::plan_only(local, request, events).await?),
        Operation::Deploy(request) => to_raw_value(&engine::deploy(local, request, events).await?),
        Operation::Status(name) => to_raw_value(&local.status(name).await?),
        Operation::Restart(name, id) => to_raw_value(&local.restart(name, id, events).await?),
        Operation::Destroy(name, data) => to_raw_value(&engine::destroy(local, name, *data, events).await?),
        Operation::List => to_raw_value(&local.deployments()),
    };
    written.map_err(|error| Report::new("INTERNAL_ERROR", format!("an answer cannot be written: {error}")))
}

/// What is being done, for the message of a call that ends early.
fn in_words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Preflight { .. } => "comparing what is there with the stack".to_owned(),
        Event::Waiting { message } => format!("waiting ({message})"),
        Event::Plan { .. } => "beginning with the plan".to_owned(),
        Event::Image { id, image, phase, .. } => format!("{} the image {image} of {id:?}", phase.in_words()),
        Event::Resource { id, state, .. } => format!("at {id:?}, which is {state}"),
    })
}

/// The events since the last time, as a JSON array; waits for one. `null` once there will be none.
#[napi(skip_typescript)]
pub async fn engine_events(number: u32) -> String {
    let Some(events) = calls().get(&number).map(|call| Arc::clone(&call.events)) else { return "null".to_owned() };
    let mut events = events.lock().await;
    let mut batch = Vec::new();
    match events.recv_many(&mut batch, 256).await {
        0 => "null".to_owned(),
        _ => serde_json::to_string(&batch).unwrap_or_else(|_| "[]".to_owned()),
    }
}

/// The call's envelope; waits for it. Asked for once.
#[napi(skip_typescript)]
pub async fn engine_result(number: u32) -> String {
    let result = calls().get_mut(&number).and_then(|call| call.result.take());
    let text = match result {
        Some(result) => result.await.ok(),
        None => None,
    };
    calls().remove(&number);
    text.unwrap_or_else(|| envelope::<()>(Err(Report::new("INTERNAL_ERROR", "there is no such call"))))
}

/// Ends the call early: its result becomes `CANCELLED`, unless it is there already.
#[napi(skip_typescript)]
pub fn engine_cancel(number: u32) {
    if let Some(call) = calls().get(&number) {
        let _ = call.cancel.send(true);
    }
}
