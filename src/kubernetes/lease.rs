//! Who is changing a deployment: a Lease, taken before the first change and given back after the last.
//!
//! As client-go's leader election does, a holder counts as gone when its Lease has not changed for as long as it says,
//! by this machine's clock: clocks of different machines are never compared.

use super::api::Cluster;
use super::kind::{Kind, Object};
use super::labels;
use super::record;
use crate::engine::event::{Event, Events};
use crate::engine::platform::Lock;
use crate::error::Report;
use crate::sys::{process, time};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a holder that says nothing is believed to be alive.
const DURATION_SECONDS: u64 = 15;
/// How often a holder says that it is alive.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often a Lease that somebody holds is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Whether the Lease is still ours. Without a Lease (a call that needs none) it always is.
#[derive(Clone, Default)]
pub struct Held(Option<Arc<AtomicBool>>);

impl Held {
    /// # Errors
    /// `LOCK_LOST` where somebody else has taken the Lease.
    pub fn check(&self) -> Result<(), Report> {
        if self.0.as_ref().is_none_or(|held| held.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let message = "another deploy has taken over: this one was silent for longer than its lease";
        Err(Report::new("LOCK_LOST", message).retryable().status(409))
    }
}

/// A Lease that is ours.
pub struct Guard {
    cluster: Arc<Cluster>,
    name: String,
    identity: String,
    seamless: bool,
    held: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
    /// Told when the Lease has been given back.
    done: Option<oneshot::Sender<()>>,
}

impl Guard {
    pub fn held(&self) -> Held {
        Held(Some(Arc::clone(&self.held)))
    }
}

#[async_trait]
impl Lock for Guard {
    fn is_seamless(&self) -> bool {
        self.seamless
    }

    async fn release(mut self: Box<Self>) {
        self.renewal.abort();
        give_back(&self.cluster, &self.name, &self.identity).await;
        self.done.take();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.renewal.abort();
        let Some(done) = self.done.take() else { return };
        let (cluster, name, identity) = (Arc::clone(&self.cluster), self.name.clone(), self.identity.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                give_back(&cluster, &name, &identity).await;
                drop(done);
            });
        }
    }
}

/// What was known when the deployment was last looked at.
pub struct Seen {
    /// Its Lease, where there was one.
    pub lease: Option<Object>,
    /// What is to be written down on it (`record::patch`), where nothing has changed since.
    pub record: Option<Value>,
}

/// Takes the Lease, waiting for whoever has it. `done` ends when the Lease has been given back.
pub async fn take(
    cluster: &Arc<Cluster>,
    deployment: &str,
    seen: Option<Seen>,
    events: &Events,
    mut done: oneshot::Sender<()>,
) -> Result<Guard, Report> {
    let name = record::lease_name(deployment);
    let identity = identity()?;
    // One that was held then has to be looked at again.
    let mut seen = seen.filter(|seen| seen.lease.as_ref().is_none_or(|lease| holder(lease).is_none()));
    let mut watched: Option<(String, Instant)> = None;
    let mut told = false;
    loop {
        // Nearly always it is as it was seen: then one request takes it.
        let (lease, record, seamless) = match seen.take() {
            Some(Seen { lease, record }) => (lease, record, true),
            None => (cluster.get(Kind::Lease, &name).await?, None, false),
        };
        if let Some(lease) = &lease {
            if !labels::is_of(lease, deployment) {
                let message = format!("the Lease {name:?} in namespace {:?} is not ours", cluster.namespace);
                return Err(Report::new("NAME_TAKEN", message).status(409).hint("rename the deployment: --name"));
            }
            if holder(lease) == Some(identity.as_str()) {
                // It was written, and the answer was lost on its way.
                return Ok(hold(cluster, name, identity, false, done));
            }
            if let Some(holder) = holder(lease) {
                let version = lease.resource_version().unwrap_or_default().to_owned();
                let since = match &watched {
                    Some((same, since)) if *same == version => *since,
                    _ => Instant::now(),
                };
                watched = Some((version, since));
                if since.elapsed() < duration(lease) {
                    if !told {
                        told = true;
                        let message =
                            format!("another deploy of {deployment:?} is under way ({holder}); waiting for it");
                        events.tell(Event::Waiting { message });
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            }
        }
        let result;
        (result, done) = attempt(cluster, deployment, lease, record, &identity, done).await?;
        match result {
            Ok(()) => return Ok(hold(cluster, name, identity, seamless, done)),
            // Somebody was quicker.
            Err(error) if matches!(error.http_status_code, 409 | 404) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes ourselves down in a task of its own: of a caller that is cut short in the middle of it nobody would know whether
/// the Lease is its. What was taken for nobody is given back.
async fn attempt(
    cluster: &Arc<Cluster>,
    deployment: &str,
    lease: Option<Object>,
    record: Option<Value>,
    identity: &str,
    done: oneshot::Sender<()>,
) -> Result<(Result<(), Report>, oneshot::Sender<()>), Report> {
    let (mut tell, told) = oneshot::channel();
    let (cluster, deployment, identity) = (Arc::clone(cluster), deployment.to_owned(), identity.to_owned());
    tokio::spawn(async move {
        let mut writing = std::pin::pin!(write(&cluster, &deployment, lease.as_ref(), record, &identity));
        let result = tokio::select! {
            result = &mut writing => Some(result),
            () = tell.closed() => None,
        };
        let unheard = match result {
            Some(result) => tell.send((result, done)).err().map(|(_, done)| done),
            None => {
                let _ = tokio::time::timeout(super::SETTLE, writing).await;
                Some(done)
            }
        };
        if unheard.is_some() {
            give_back(&cluster, &record::lease_name(&deployment), &identity).await;
        }
    });
    told.await.map_err(|_| Report::new("INTERNAL_ERROR", "the task that takes the Lease has ended"))
}

/// Writes ourselves down, and the record where there is one, provided that the Lease is still as it was seen.
async fn write(
    cluster: &Cluster,
    deployment: &str,
    lease: Option<&Object>,
    record: Option<Value>,
    identity: &str,
) -> Result<(), Report> {
    let now = micro_time();
    let transitions = lease.map_or(0, |lease| lease.body["spec"]["leaseTransitions"].as_u64().unwrap_or_default() + 1);
    let spec = json!({
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION_SECONDS,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": transitions,
    });
    match lease {
        None => drop(cluster.create(&record::lease(deployment, spec, record), false).await?),
        Some(lease) => {
            let mut patch = record.unwrap_or_else(|| json!({ "metadata": {} }));
            patch["metadata"]["resourceVersion"] = json!(lease.resource_version());
            patch["spec"] = spec;
            cluster.merge(Kind::Lease, &lease.name, &patch, super::api::MANAGER).await?;
        }
    }
    Ok(())
}

fn hold(cluster: &Arc<Cluster>, name: String, identity: String, seamless: bool, done: oneshot::Sender<()>) -> Guard {
    let held = Arc::new(AtomicBool::new(true));
    let renewal = tokio::spawn(renew(Arc::clone(cluster), name.clone(), identity.clone(), Arc::clone(&held)));
    Guard { cluster: Arc::clone(cluster), name, identity, seamless, held, renewal, done: Some(done) }
}

async fn renew(cluster: Arc<Cluster>, name: String, identity: String, held: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let renewed = [json!({ "op": "replace", "path": "/spec/renewTime", "value": micro_time() })];
        match cluster.patch_if(Kind::Lease, &name, &is_ours(&identity), &renewed).await {
            Ok(true) => {}
            // Somebody has it, or has removed it and meant to.
            Ok(false) => break,
            // The server is away: whoever it lets take the Lease meanwhile is seen the next time.
            Err(_) => {}
        }
    }
    held.store(false, Ordering::Relaxed);
}

/// Lets others go on. Where that fails they wait until the Lease has run out.
async fn give_back(cluster: &Cluster, name: &str, identity: &str) {
    let free = [
        json!({ "op": "remove", "path": "/spec/holderIdentity" }),
        json!({ "op": "replace", "path": "/spec/leaseDurationSeconds", "value": 1 }),
        json!({ "op": "replace", "path": "/spec/renewTime", "value": micro_time() }),
    ];
    let _ = cluster.patch_if(Kind::Lease, name, &is_ours(identity), &free).await;
}

/// The condition under which a Lease may be changed.
fn is_ours(identity: &str) -> Value {
    json!({ "op": "test", "path": "/spec/holderIdentity", "value": identity })
}

/// Who holds a Lease; nobody where it was given back.
pub fn holder(lease: &Object) -> Option<&str> {
    lease.body["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Object) -> Duration {
    let seconds = lease.body["spec"]["leaseDurationSeconds"].as_u64();
    Duration::from_secs(seconds.unwrap_or(DURATION_SECONDS).min(10 * DURATION_SECONDS))
}

/// Who we are, for others to read: machine and process, and what tells two calls of one process apart.
fn identity() -> Result<String, Report> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = process::random_name().map_err(|error| Report::new("INTERNAL_ERROR", error.to_string()))?;
    Ok(format!("{} process {} {}", host.trim(), std::process::id(), &random[..8]))
}

/// Kubernetes' `MicroTime`.
fn micro_time() -> Value {
    let text = time::rfc3339(time::wall());
    json!(format!("{}Z", &text[..26]))
}
