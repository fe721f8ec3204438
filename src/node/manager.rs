//! The way to a cluster's manager of commands, for callers in JavaScript; and the manager's image.
//!
//! `wayOpen` checks the request and gives a number, `wayStart` opens the way and gives `{url, token, deploymentId?}`,
//! `wayClose` ends it, at any time. A way that nobody closes keeps no process alive.

use super::handles::Handles;
use super::options::Picture;
use super::request::Asked;
use super::value::{answer, envelope};
use crate::error::Report;
use crate::image::{self, Made, Program};
use crate::kubernetes::{Kubernetes, Way};
use crate::model::check::{self, At, Issues, OPTIONS};
use crate::model::{ImageReference, Platform, Raw};
use napi_derive::napi;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// The user that the manager's image runs under: nobody.
const USER: u32 = 65532;

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

/// Opens the way, as an envelope of `{url, token, deploymentId?}`. Asked for once.
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
        let told = json!({ "url": way.url, "token": way.token, "deploymentId": way.deployment });
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

/// Makes the manager's image of the package's own program, and puts it where it is wanted.
///
/// # Errors
/// `INVALID_IMAGE`; what a registry or a disk says.
pub async fn image(wanted: &Picture, program: &std::path::Path, mut from: image::Options) -> Result<Value, Report> {
    let invalid = |why: String| Report::new("INVALID_IMAGE", why).status(400);
    let reference = ImageReference::parse(&wanted.reference);
    let reference = reference.map_err(|why| invalid(format!("{:?} is no image: {why}", wanted.reference)))?;
    if !program.exists() {
        let message = format!("the package has no {}", program.display());
        return Err(
            Report::new("MANAGER_MISSING", message).hint("install the package again; in a checkout: npm run build")
        );
    }
    let labels = [
        ("org.opencontainers.image.title", "alien-manager"),
        ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
        ("org.opencontainers.image.licenses", "Apache-2.0"),
    ];
    let program = program.to_owned();
    let making = tokio::task::spawn_blocking(move || {
        Made::new(&Program { file: &program, name: "alien-manager", folders: &["/data"], user: USER, labels: &labels })
    });
    let made = making.await.map_err(|error| Report::new("INTERNAL_ERROR", error.to_string()))??;
    let digest = made.digest();
    let image = match &reference {
        ImageReference::Registry(to) if wanted.push => {
            if to.digest.is_some() {
                let why = format!("{:?} names a digest, which the image itself decides", wanted.reference);
                return Err(invalid(why).hint("give REGISTRY/REPOSITORY:TAG"));
            }
            // What is pushed goes to the registry itself.
            from.registries.values_mut().for_each(|registry| registry.mirror = None);
            made.push(to, &from).await?;
            format!("{to}@{digest}")
        }
        other if !wanted.push && other.is_local_only() => {
            made.write(other)?;
            other.to_string()
        }
        _ if wanted.push => {
            let why = format!("{:?} is no registry's", wanted.reference);
            return Err(invalid(why).hint("give REGISTRY/REPOSITORY:TAG, or --output oci-archive:FILE"));
        }
        _ => {
            let why = format!("{:?} is a registry's", wanted.reference);
            return Err(invalid(why).hint("give oci:DIR or oci-archive:FILE; `alien manager image push REF` pushes"));
        }
    };
    Ok(json!({ "image": image, "digest": digest }))
}
