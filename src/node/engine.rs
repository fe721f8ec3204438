//! The engine's calls: begun here, followed and awaited from JavaScript, cancelled at any time.
//!
//! A call has a number. `engineBegin` starts it and gives that; `engineEvents` gives the events since the last time,
//! as they come, and `null` once there will be none; `engineResult` gives the envelope; `engineCancel` ends it early.
//! Events are fetched rather than pushed, so that all of them are seen before the result, in every realm, and nothing
//! keeps Node's event loop alive but the promises that somebody awaits.

use super::handles::Handles;
use super::options;
use super::request::{Asked, place};
use super::value::{answer, envelope};
use crate::engine::manager::{Install, Uninstall};
use crate::engine::manager_image::{self, Destination};
use crate::engine::startup;
use crate::engine::vault;
use crate::engine::{self, Event, Events, Platform, Request};
use crate::error::Report;
use crate::image;
use crate::model::Raw;
use napi_derive::napi;
use serde_json::value::{RawValue, to_raw_value};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Text that is JSON already: large plans are written once.
type Json = Box<RawValue>;

/// How long what a call has left behind is waited for, once it is over.
const SETTLE: Duration = Duration::from_secs(3);

/// A call under way.
struct Call {
    /// Taken by the one reader.
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Json>>>,
    result: Option<oneshot::Receiver<String>>,
    cancel: watch::Sender<bool>,
}

static CALLS: Handles<Call> = Handles::new();

/// What is to be done, read and checked before anything begins.
enum Operation {
    Plan(Request),
    Deploy(Request),
    Status(String, bool),
    Restart(String, String),
    Rollback(String, String),
    Destroy(String, bool),
    List,
    Vault(String, String, vault::Change),
    Images,
    Prune(bool),
    Doctor(bool),
    Startup(startup::Request),
    Install(Install),
    Uninstall(Uninstall),
    Image(Destination, PathBuf, image::Options),
}

/// Takes `{operation, options, defaults, stack?, id?, usage?, data?, dryRun?, startup?, key?, value?, manager?}`; answers with the
/// call's number.
#[napi(skip_typescript)]
pub fn engine_begin(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        let operation = operation(&asked)?;
        let stack = match &operation {
            Operation::Plan(request) | Operation::Deploy(request) => Some(&request.stack),
            _ => None,
        };
        let timeout = asked.options.timeout;
        let platform = place(asked.options, stack)?;
        Ok(begin(operation, platform, timeout))
    })
}

fn operation(asked: &Asked) -> Result<Operation, Report> {
    Ok(match asked.text("operation").as_str() {
        "plan" => Operation::Plan(asked.stack()?),
        "deploy" => Operation::Deploy(asked.stack()?),
        "status" => Operation::Status(asked.deployment()?, *asked.part("usage") == Raw::Bool(true)),
        "restart" => Operation::Restart(asked.deployment()?, asked.text("id")),
        "rollback" => Operation::Rollback(asked.deployment()?, asked.text("id")),
        "destroy" => Operation::Destroy(asked.deployment()?, *asked.part("data") == Raw::Bool(true)),
        "vault" => Operation::Vault(asked.deployment()?, asked.text("id"), vault_change(asked)?),
        "images" => Operation::Images,
        "prune" => Operation::Prune(*asked.part("dryRun") == Raw::Bool(true)),
        "doctor" => Operation::Doctor(*asked.part("dryRun") == Raw::Bool(true)),
        "startup" => Operation::Startup(options::startup(asked.part("startup"))?),
        "installManager" => Operation::Install(options::install(asked.part("manager"))?),
        "uninstallManager" => Operation::Uninstall(options::uninstall(asked.part("manager"))?),
        "managerImage" => {
            let local = &asked.options.local;
            Operation::Image(options::destination(asked.part("manager"))?, local.program.clone(), local.images.clone())
        }
        _ => Operation::List,
    })
}

fn vault_change(asked: &Asked) -> Result<vault::Change, Report> {
    let change = match (asked.part("key"), asked.part("value")) {
        (Raw::Undefined, _) => vault::Change::None,
        (_, Raw::Undefined) => vault::Change::Remove { key: asked.text("key") },
        _ => vault::Change::Set { key: asked.text("key"), value: asked.text("value") },
    };
    change.check(&asked.text("id")).map(|()| change)
}

fn begin(operation: Operation, mut platform: Box<dyn Platform>, timeout: Duration) -> u32 {
    let (tell, events) = mpsc::unbounded_channel();
    let (give, result) = oneshot::channel();
    let (cancel, cancelled) = watch::channel(false);
    let events = Arc::new(tokio::sync::Mutex::new(events));
    let number = CALLS.put(Call { events, result: Some(result), cancel });
    napi::bindgen_prelude::spawn(async move {
        // A task of its own, so that a panic in it is an answer and not a promise that never settles.
        let work = tokio::spawn(async move {
            let result = bounded(platform.as_mut(), &operation, timeout, tell, cancelled).await;
            let _ = tokio::time::timeout(SETTLE, platform.settle()).await;
            result
        });
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
    platform: &mut dyn Platform,
    operation: &Operation,
    timeout: Duration,
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
    platform.listen(&events);
    let platform: &dyn Platform = platform;
    let doing = || match doing.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(doing) => format!("; it was {doing}"),
        None => String::new(),
    };
    tokio::select! {
        result = run(platform, operation, &events) => result,
        () = tokio::time::sleep(timeout) => {
            let message = format!("not done within {} s{}", timeout.as_secs_f64(), doing());
            Err(Report::new("TIMEOUT", message).retryable().status(504).hint("give it longer with timeoutMs (--timeout SECONDS)"))
        }
        _ = cancelled.wait_for(|cancelled| *cancelled) => {
            Err(Report::new("CANCELLED", format!("cancelled{}", doing())).status(499))
        }
    }
}

async fn run(platform: &dyn Platform, operation: &Operation, events: &Events) -> Result<Json, Report> {
    let written = match operation {
        Operation::Plan(request) => to_raw_value(&engine::plan_only(platform, request, events).await?),
        Operation::Deploy(request) => to_raw_value(&engine::deploy(platform, request, events).await?),
        Operation::Status(name, usage) => to_raw_value(&engine::status(platform, name, *usage).await?),
        Operation::Restart(name, id) => to_raw_value(&platform.restart(name, id, events).await?),
        Operation::Rollback(name, id) => to_raw_value(&engine::rollback(platform, name, id, events).await?),
        Operation::Destroy(name, data) => to_raw_value(&engine::destroy(platform, name, *data, events).await?),
        Operation::List => to_raw_value(&platform.list().await?),
        Operation::Vault(name, id, change) => to_raw_value(&platform.change_vault(name, id, change).await?),
        Operation::Images => to_raw_value(&platform.images().await?),
        Operation::Prune(dry_run) => to_raw_value(&platform.prune(*dry_run).await?),
        Operation::Doctor(dry_run) => to_raw_value(&platform.doctor(*dry_run).await?),
        Operation::Startup(request) => to_raw_value(&platform.startup(request).await?),
        Operation::Install(wanted) => to_raw_value(&platform.install_manager(wanted, events).await?),
        Operation::Uninstall(wanted) => to_raw_value(&platform.uninstall_manager(*wanted, events).await?),
        Operation::Image(wanted, program, from) => {
            to_raw_value(&manager_image::make(wanted, program, from.clone()).await?)
        }
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
        Event::Resource { id, state, message: None, .. } => format!("at {id:?}, which is {state}"),
        Event::Resource { id, state, message: Some(why), .. } => format!("at {id:?}, which is {state} ({why})"),
    })
}

/// The events since the last time, as a JSON array; waits for one. `null` once there will be none.
#[napi(skip_typescript)]
pub async fn engine_events(number: u32) -> String {
    let Some(events) = CALLS.with(number, |call| Arc::clone(&call.events)) else { return "null".to_owned() };
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
    let text = match CALLS.with(number, |call| call.result.take()).flatten() {
        Some(result) => result.await.ok(),
        None => None,
    };
    CALLS.take(number);
    text.unwrap_or_else(|| envelope::<()>(Err(Report::new("INTERNAL_ERROR", "there is no such call"))))
}

/// Ends the call early: its result becomes `CANCELLED`, unless it is there already.
#[napi(skip_typescript)]
pub fn engine_cancel(number: u32) {
    CALLS.with(number, |call| call.cancel.send(true));
}
