//! A deployment's Deployments and pods as they change, watched: one watch for each for all daemons.

use super::api::Cluster;
use super::diagnosis;
use super::kind::{Kind, Object};
use super::labels;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What there is at this moment.
#[derive(Default)]
struct State {
    deployments: HashMap<String, Arc<Object>>,
    /// By the id of their daemon, then by name.
    pods: HashMap<String, HashMap<String, Pod>>,
    /// Whether each kind has been listed whole.
    synced: [bool; 2],
}

/// Follows a deployment until it is dropped.
pub struct Feed {
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

/// A change to what is known.
enum Change<T> {
    /// A list begins: what it does not name is gone.
    Reset,
    Put(T),
    Gone(T),
    /// The list is whole.
    Whole,
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
        let mut tasks = JoinSet::new();
        let (known, told, name) = (Arc::clone(&state), tell.clone(), deployment.to_owned());
        tasks.spawn(follow(deployments, config.clone(), move |change| {
            lock(&known).deployment(change, &name);
            told.send_modify(|count| *count += 1);
        }));
        let (known, name) = (Arc::clone(&state), deployment.to_owned());
        tasks.spawn(follow(pods, config, move |change| {
            lock(&known).pod(change, &name);
            tell.send_modify(|count| *count += 1);
        }));
        Feed { state, changes, _tasks: tasks }
    }

    /// A receiver that is told of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Whether everything has been seen once.
    pub fn is_synced(&self) -> bool {
        lock(&self.state).synced == [true; 2]
    }

    /// A daemon's Deployment and pods.
    pub fn daemon(&self, name: &str, id: &str) -> (Option<Arc<Object>>, Vec<Pod>) {
        let state = lock(&self.state);
        let pods = state.pods.get(id).map(|pods| pods.values().cloned().collect());
        (state.deployments.get(name).cloned(), pods.unwrap_or_default())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow<K>(api: Api<K>, config: watcher::Config, mut tell: impl FnMut(Change<K>))
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    // It goes on for ever: after an error it begins again, each time a little later.
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => tell(Change::Reset),
            Ok(Event::InitApply(object) | Event::Apply(object)) => tell(Change::Put(object)),
            Ok(Event::InitDone) => tell(Change::Whole),
            Ok(Event::Delete(object)) => tell(Change::Gone(object)),
            Err(_) => {}
        }
    }
}

impl State {
    fn deployment(&mut self, change: Change<DynamicObject>, deployment: &str) {
        match change {
            Change::Reset => self.deployments.clear(),
            Change::Whole => self.synced[0] = true,
            Change::Gone(object) => drop(self.deployments.remove(&object.metadata.name.unwrap_or_default())),
            Change::Put(mut object) => {
                object.metadata.managed_fields = None;
                let name = object.metadata.name.clone().unwrap_or_default();
                let object = Object { kind: Kind::Deployment, name: name.clone(), body: json!(object) };
                if labels::is_of(&object, deployment) {
                    self.deployments.insert(name, Arc::new(object));
                }
            }
        }
    }

    fn pod(&mut self, change: Change<Pod>, deployment: &str) {
        let place = |pod: &Pod| {
            let ours = diagnosis::annotation(pod, labels::DEPLOYMENT) == Some(deployment);
            let id = diagnosis::annotation(pod, labels::RESOURCE).filter(|_| ours)?;
            Some((id.to_owned(), pod.metadata.name.clone()?))
        };
        match change {
            Change::Reset => self.pods.clear(),
            Change::Whole => self.synced[1] = true,
            Change::Gone(pod) => {
                if let Some((id, name)) = place(&pod) {
                    self.pods.entry(id).or_default().remove(&name);
                }
            }
            Change::Put(mut pod) => {
                pod.metadata.managed_fields = None;
                if let Some((id, name)) = place(&pod) {
                    self.pods.entry(id).or_default().insert(name, pod);
                }
            }
        }
    }
}
