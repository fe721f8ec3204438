//! A deployment's Deployments and pods as they change, watched: one watch for each for all daemons.

use super::api::Cluster;
use super::diagnosis;
use super::failure;
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::snapshot::Snapshot;
use crate::error::Report;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Error, Event, watcher};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CALM: Duration = Duration::from_secs(10);

/// What there is at this moment.
#[derive(Default)]
struct State {
    /// By the daemon's id.
    daemons: HashMap<String, Known>,
    /// While a kind is being listed (again): the names that were in the list so far. What it does not name is gone, but
    /// until it is whole, what was known stands: half a list would say that things are gone.
    listed: [Option<HashSet<String>>; 2],
    /// Whether each kind has been listed whole.
    synced: [bool; 2],
    /// Why nothing can be seen any more.
    refused: Option<Report>,
    /// How often the server was away or did not answer.
    losses: u64,
}

/// What is known of one daemon.
#[derive(Default)]
struct Known {
    deployment: Option<Arc<Object>>,
    /// By name.
    pods: HashMap<String, Pod>,
    /// Told of every change of this daemon: with hundreds of them, each must not wake for all.
    tell: watch::Sender<u64>,
}

/// Where a kind is in `listed` and `synced`.
const DEPLOYMENTS: usize = 0;
const PODS: usize = 1;

/// Follows a deployment until it is dropped.
pub struct Feed {
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

/// A change to what is known.
enum Change<T> {
    /// A list begins.
    Listing,
    Put(T),
    Gone(T),
    /// The list is whole.
    Listed,
}

/// Why nothing is told.
enum Trouble {
    /// The server does not let us see.
    Refused(Error),
    /// The server is away.
    Lost,
}

impl Feed {
    /// Begins to watch. Watches that are cut, or too old to be gone on with (410), are begun again.
    pub fn start(cluster: &Cluster, deployment: &str) -> Feed {
        let state: Arc<Mutex<State>> = Arc::default();
        let (tell, changes) = watch::channel(0);
        let config = watcher::Config::default().labels(&labels::of_deployment(deployment));
        let client = cluster.entrance.client.clone();
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(Kind::Deployment.group(), "v1", Kind::Deployment.as_str()),
            Kind::Deployment.plural(),
        );
        let deployments: Api<DynamicObject> = Api::namespaced_with(client.clone(), &cluster.namespace, &resource);
        let pods: Api<Pod> = Api::namespaced(client, &cluster.namespace);
        let listener = |what| Listener {
            state: Arc::clone(&state),
            tell: tell.clone(),
            deployment: deployment.to_owned(),
            server: cluster.entrance.server.clone(),
            what,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(deployments, config.clone(), listener("deployments"), State::deployment));
        tasks.spawn(follow(pods, config, listener("pods"), State::pod));
        Feed { state, changes, _tasks: tasks }
    }

    /// A receiver that is told of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// A receiver that is told of every change of one daemon from now on.
    pub fn changes_of(&self, id: &str) -> watch::Receiver<u64> {
        lock(&self.state).daemons.entry(id.to_owned()).or_default().tell.subscribe()
    }

    /// Whether everything has been seen once.
    pub fn is_synced(&self) -> bool {
        lock(&self.state).synced == [true; 2]
    }

    /// # Errors
    /// Why nothing can be seen any more: credentials that have run out, rights that were taken away.
    pub fn check(&self) -> Result<(), Report> {
        lock(&self.state).refused.clone().map_or(Ok(()), Err)
    }

    /// Changes whenever what is known may be old, because the server was away.
    pub fn losses(&self) -> u64 {
        lock(&self.state).losses
    }

    /// All that is followed; `None` until it has been seen whole. Of other kinds there is nothing in it.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let state = lock(&self.state);
        if state.synced != [true; 2] {
            return None;
        }
        let deployments = state.daemons.values().filter_map(|known| known.deployment.as_deref());
        let objects = deployments.map(|object| ((object.kind, object.name.clone()), object.clone())).collect();
        let pods =
            state.daemons.iter().map(|(id, known)| (id.clone(), known.pods.values().cloned().collect())).collect();
        Some(Snapshot { objects, pods, record: None })
    }

    /// A daemon's Deployment and pods.
    pub fn daemon(&self, id: &str) -> (Option<Arc<Object>>, Vec<Pod>) {
        match lock(&self.state).daemons.get(id) {
            Some(known) => (known.deployment.clone(), known.pods.values().cloned().collect()),
            None => (None, Vec::new()),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whom one watch tells.
struct Listener {
    state: Arc<Mutex<State>>,
    tell: watch::Sender<u64>,
    deployment: String,
    server: String,
    /// What is watched, for people.
    what: &'static str,
}

async fn follow<K>(api: Api<K>, config: watcher::Config, to: Listener, take: fn(&mut State, Change<K>, &str))
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).backoff(Pause::default()));
    // It goes on for ever: after an error it begins again, each time a little later.
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(Event::Init) => Ok(Change::Listing),
            Ok(Event::InitApply(object) | Event::Apply(object)) => Ok(Change::Put(object)),
            Ok(Event::InitDone) => Ok(Change::Listed),
            Ok(Event::Delete(object)) => Ok(Change::Gone(object)),
            Err(error) if is_refused(&error) => Err(Trouble::Refused(error)),
            Err(_) => Err(Trouble::Lost),
        };
        let mut state = lock(&to.state);
        match told {
            Ok(change) => {
                state.refused = None;
                take(&mut state, change, &to.deployment);
            }
            Err(trouble) => state.trouble(trouble, to.what, &to.server),
        }
        drop(state);
        to.tell.send_modify(|count| *count += 1);
    }
}

/// Whether asking again will not help.
fn is_refused(error: &Error) -> bool {
    let code = match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            failure::code(error)
        }
        Error::WatchError(status) => Some(status.code),
        _ => None,
    };
    matches!(code, Some(401 | 403))
}

fn refusal(error: Error, what: &str, server: &str) -> Report {
    let error = match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => error,
        Error::WatchError(status) => kube::Error::Api(status),
        other => return Report::new("CLUSTER_REFUSED", other.to_string()),
    };
    failure::report(&error, &format!("watching {what}"), server)
}

/// Doubles from one trouble to the next, and begins anew once there was none for a while. A server that comes back is
/// to be noticed soon.
#[derive(Default)]
struct Pause(Option<(Duration, Instant)>);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = match self.0 {
            Some((pause, at)) if at.elapsed() < CALM => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.0 = Some((pause, Instant::now()));
        Some(pause)
    }
}

impl Backoff for Pause {
    // That a list is begun (`Event::Init`) counts as a success too, so successes say nothing.
    fn reset(&mut self) {}
}

impl State {
    fn trouble(&mut self, trouble: Trouble, what: &str, server: &str) {
        match trouble {
            Trouble::Refused(error) => self.refused = Some(refusal(error, what, server)),
            Trouble::Lost => self.losses += 1,
        }
        self.tell_all();
    }

    fn deployment(&mut self, change: Change<DynamicObject>, deployment: &str) {
        match change {
            Change::Listing => self.listing(DEPLOYMENTS),
            Change::Listed => {
                let gone = self.listed(DEPLOYMENTS);
                self.change_all(|known| known.deployment.take_if(|object| gone(&object.name)).is_some());
            }
            Change::Put(mut object) => {
                object.metadata.managed_fields = None;
                let name = object.metadata.name.clone().unwrap_or_default();
                let object = Object { kind: Kind::Deployment, name, body: json!(object) };
                if let Some(id) = daemon_of(&object, deployment) {
                    self.seen(DEPLOYMENTS, &object.name);
                    self.change(&id, |known| known.deployment = Some(Arc::new(object)));
                }
            }
            Change::Gone(object) => {
                let name = object.metadata.name.unwrap_or_default();
                self.change_all(|known| known.deployment.take_if(|object| object.name == name).is_some());
            }
        }
    }

    fn pod(&mut self, change: Change<Pod>, deployment: &str) {
        let place = |pod: &Pod| Some((diagnosis::daemon_of(pod, deployment)?.to_owned(), pod.metadata.name.clone()?));
        match change {
            Change::Listing => self.listing(PODS),
            Change::Listed => {
                let gone = self.listed(PODS);
                self.change_all(|known| {
                    let before = known.pods.len();
                    known.pods.retain(|name, _| !gone(name));
                    known.pods.len() < before
                });
            }
            Change::Put(mut pod) => {
                pod.metadata.managed_fields = None;
                if let Some((id, name)) = place(&pod) {
                    self.seen(PODS, &name);
                    self.change(&id, |known| drop(known.pods.insert(name, pod)));
                }
            }
            Change::Gone(pod) => {
                if let Some((id, name)) = place(&pod) {
                    self.change(&id, |known| drop(known.pods.remove(&name)));
                }
            }
        }
    }

    fn listing(&mut self, kind: usize) {
        self.listed[kind] = Some(HashSet::new());
    }

    fn seen(&mut self, kind: usize, name: &str) {
        if let Some(listed) = &mut self.listed[kind] {
            listed.insert(name.to_owned());
        }
    }

    /// Ends a list: tells which names are gone. The first list of a kind wakes everybody.
    fn listed(&mut self, kind: usize) -> impl Fn(&str) -> bool + use<> {
        let listed = self.listed[kind].take();
        if !std::mem::replace(&mut self.synced[kind], true) {
            self.tell_all();
        }
        move |name: &str| listed.as_ref().is_some_and(|listed| !listed.contains(name))
    }

    fn tell_all(&self) {
        self.daemons.values().for_each(Known::tell);
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Known)) {
        let known = self.daemons.entry(id.to_owned()).or_default();
        change(known);
        known.tell();
    }

    /// Tells those that `change` says it has changed.
    fn change_all(&mut self, change: impl Fn(&mut Known) -> bool) {
        self.daemons.values_mut().filter_map(|known| change(known).then_some(known)).for_each(|known| known.tell());
    }
}

impl Known {
    fn tell(&self) {
        self.tell.send_modify(|count| *count += 1);
    }
}

/// The id of the daemon that a Deployment is of.
fn daemon_of(object: &Object, deployment: &str) -> Option<String> {
    let id = object.annotation(labels::RESOURCE).filter(|_| labels::is_of(object, deployment))?;
    // Another one that says the same would be a copy that somebody made of ours.
    (Owner { deployment, stack: "", id }.name() == object.name).then(|| id.to_owned())
}
