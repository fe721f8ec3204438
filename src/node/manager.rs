//! The way to a cluster's manager of commands, for callers in JavaScript.
//!
//! `wayOpen` checks the request and gives a number, `wayStart` opens the way and gives `{url, token, deploymentId?, ca?}`,
//! `wayClose` ends it, at any time. A way that nobody closes keeps no process alive.

use super::handles::Handles;
use super::request::Asked;
use super::value::{answer, envelope};
use crate::error::Report;
use crate::kubernetes::{Kubernetes, Way};
use crate::model::check::{self, At, Issues, OPTIONS};
use crate::model::{Platform, Raw};
use napi_derive::napi;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// A way, from the request on.
#[derive(Clone)]
struct Opening {
    close: Arc<watch::Sender<bool>>,
    state: Arc<Mutex<State>>,
}

enum State {
    Asked(Box<Start>),
    /// Held, and that is all.
    Open(#[allow(dead_code)] Box<Way>),
    Over,
}

struct Start {
    kubernetes: Kubernetes,
    /// `None`: the administrator's.
    deployment: Option<String>,
    timeout: Duration,
}

static WAYS: Handles<Opening> = Handles::new();

/// Takes `{options, defaults, admin?}`; answers with the way's number.
#[napi(skip_typescript)]
pub fn way_open(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        if asked.options.platform != Platform::Kubernetes {
            let mut issues = Issues::default();
            let message = format!("{} has no way of its own: expected \"kubernetes\"", asked.options.platform);
            issues.add(&At::ROOT.key("platform"), "invalid_value", message);
            return Err(check::report(issues.0, OPTIONS, None));
        }
        let admin = *asked.part("admin") == Raw::Bool(true);
        let deployment = if admin { None } else { Some(asked.deployment()?) };
        let timeout = asked.options.timeout;
        let start = Start { kubernetes: Kubernetes::new(asked.options.kubernetes), deployment, timeout };
        let state = Arc::new(Mutex::new(State::Asked(Box::new(start))));
        Ok(WAYS.put(Opening { close: Arc::new(watch::Sender::new(false)), state }))
    })
}

/// Opens the way, as an envelope of `{url, token, deploymentId?, ca?}`. Asked for once.
#[napi(skip_typescript)]
pub async fn way_start(number: u32) -> String {
    let Some(opening) = WAYS.get(number) else { return envelope::<()>(Err(closed())) };
    let mut close = opening.close.subscribe();
    let mut state = opening.state.lock().await;
    let State::Asked(start) = std::mem::replace(&mut *state, State::Over) else {
        return envelope::<()>(Err(Report::new("INTERNAL_ERROR", "a way is opened once")));
    };
    let Start { kubernetes, deployment, timeout } = *start;
    let way = tokio::select! {
        way = kubernetes.way(deployment.as_deref()) => way,
        () = tokio::time::sleep(timeout) => {
            let message = format!("the manager was not reached within {} s", timeout.as_secs_f64());
            Err(Report::new("TIMEOUT", message).retryable().status(504))
        }
        _ = close.wait_for(|closed| *closed) => Err(closed()),
    };
    envelope(way.map(|way| {
        let told = json!({ "url": way.url, "token": way.token, "deploymentId": way.deployment, "ca": way.ca });
        *state = State::Open(Box::new(way));
        told
    }))
}

fn closed() -> Report {
    Report::new("CANCELLED", "the way to the manager was closed").status(499)
}

/// Ends the way: connections through it are cut.
#[napi(skip_typescript)]
pub fn way_close(number: u32) {
    if let Some(opening) = WAYS.take(number) {
        let _ = opening.close.send(true);
        // Where it is being opened, that ends by itself.
        if let Ok(mut state) = opening.state.try_lock() {
            *state = State::Over;
        }
    }
}
