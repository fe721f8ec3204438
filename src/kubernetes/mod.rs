//! `Platform` in a cluster: a single-replica Deployment for each daemon.
//!
//! ```text
//! access     kubeconfig or pod → client        transport  one connection for all requests
//! api        requests, repeated on failure     feed       what there is as it changes, watched
//! manifest   a daemon's objects; pure          drift      what differs, in the model's words
//! snapshot   what there is                     survey     what there should be, against it
//! change     making it so, and taking it back  rollout    waiting until it is up, or will not be
//! lease      who is changing a deployment      history    versions that were replaced
//! rights     what a deploy has to be allowed   diagnosis  why a daemon is not up
//! manager    the one of commands, installed    commands   who takes them from where, with which token
//! gateway    the way to it from outside        tokens     made with what is deployed, and taken back
//! ```
//!
//! There is no state but the cluster's: objects are known by their labels and annotations, and which of their fields are
//! ours by `managedFields`.

mod access;
mod api;
mod change;
mod commands;
mod diagnosis;
mod drift;
mod environment;
mod exec;
mod facts;
mod failure;
mod feed;
mod gateway;
mod history;
mod kind;
mod labels;
mod lease;
mod logs;
mod manager;
mod manager_manifest;
mod manifest;
mod notices;
mod options;
mod ownership;
mod proxy;
mod pull;
mod record;
mod rehearsal;
mod removal;
mod render;
mod rights;
mod rollout;
mod snapshot;
mod status;
mod survey;
mod tokens;
mod transport;
mod version_secret;
mod watch;
mod yaml;

pub use options::{Access, OnFailure, Options, Registry};
pub use render::render;
pub use rights::role as least_role;

use crate::engine::event::Events;
use crate::engine::exec::{Options as ExecOptions, Session as ExecSession};
use crate::engine::failure::no_daemon;
use crate::engine::logs::{LogReader, Options as LogOptions};
use crate::engine::manager::{Install, Uninstall};
use crate::engine::plan::{Action, Desired, Observed, Plan};
use crate::engine::platform::{Inputs, Lock, Platform, StatusWatch, Survey};
use crate::engine::status::DeploymentStatus;
use crate::error::Report;
use crate::model::{self, Stack};
use crate::preflight::Check;
use api::Cluster;
use async_trait::async_trait;
use change::{Change, Forced};
pub use commands::Way;
use commands::{Admin, Minted, Place};
use feed::Feed;
use labels::Owner;
use lease::{Held, Seen};
use record::Record;
use snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use survey::Wanted;
use tokio::sync::{OnceCell, oneshot};

/// How long is waited for the Lease to be given back after a call that was cut short.
const SETTLE: Duration = Duration::from_secs(2);

/// Kubernetes.
pub struct Kubernetes {
    options: Options,
    events: Events,
    cluster: OnceCell<Arc<Cluster>>,
    feed: OnceCell<Feed>,
    session: Mutex<Session>,
    /// Who takes back tokens for commands.
    admins: OnceCell<Vec<Admin>>,
}

/// What one call of the engine has found out so far.
#[derive(Default)]
struct Session {
    /// What the plan was made from.
    snapshot: Option<Arc<Snapshot>>,
    wanted: Arc<BTreeMap<String, Wanted>>,
    forced: Arc<Forced>,
    /// Where the planned stack's daemons take their commands from; none where none of them takes any.
    place: Option<Arc<Place>>,
    /// The Secrets with new tokens for commands.
    minted: Arc<Minted>,
    /// The stack of the plan, and what is written down about it.
    stack: Option<(String, Vec<record::Entry>)>,
    /// Whether that was written down when the Lease was taken.
    recorded: bool,
    held: Held,
    /// Whether anything was changed since the snapshot.
    changed: bool,
    /// Ends once the Lease has been given back.
    released: Option<oneshot::Receiver<()>>,
}

impl Session {
    /// The change that writes down what the planned deployment is of.
    fn record(&self, deployment: &str) -> Option<serde_json::Value> {
        self.stack.as_ref().map(|(stack, entries)| record::patch(deployment, stack, entries))
    }
}

impl Kubernetes {
    /// Nothing is touched yet.
    pub fn new(options: Options) -> Self {
        let (cluster, feed, events) = (OnceCell::new(), OnceCell::new(), Events::ignored());
        let admins = OnceCell::new();
        Kubernetes { options, events, cluster, feed, session: Mutex::default(), admins }
    }

    async fn cluster(&self) -> Result<&Arc<Cluster>, Report> {
        let enter = || async {
            let entrance = access::enter(&self.options.access).await?;
            Ok(Arc::new(Cluster::new(entrance, self.options.namespace.clone(), self.events.clone())))
        };
        self.cluster.get_or_try_init(enter).await
    }

    async fn feed(&self, deployment: &str) -> Result<&Feed, Report> {
        let cluster = self.cluster().await?;
        Ok(self.feed.get_or_init(|| async { Feed::start(cluster, deployment) }).await)
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot that the plan was made from, or one of now.
    async fn snapshot(&self, deployment: &str) -> Result<Arc<Snapshot>, Report> {
        let known = self.session().snapshot.clone();
        match known {
            Some(snapshot) => Ok(snapshot),
            None => self.look(deployment).await,
        }
    }

    async fn look(&self, deployment: &str) -> Result<Arc<Snapshot>, Report> {
        let snapshot = Arc::new(Snapshot::take(self.cluster().await?, deployment).await?);
        self.session().snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// The snapshot of a deployment that has the daemon `id`, with the id of its stack.
    async fn with_daemon(&self, deployment: &str, id: &str) -> Result<(Arc<Snapshot>, String), Report> {
        let snapshot = self.look(deployment).await?;
        let cluster = self.cluster().await?;
        if !survey::is_there(&snapshot) {
            return Err(status::not_found(cluster, deployment).await);
        }
        if !snapshot.daemons().contains(id) {
            let mut there: Vec<&str> = snapshot.daemons().into_iter().collect();
            there.sort_by_key(|id| snapshot.record.as_ref().map_or(usize::MAX, |record| record.position(id)));
            return Err(no_daemon(deployment, id, &there));
        }
        let stack =
            snapshot.of_daemon(id).find_map(|object| object.annotation(labels::STACK)).unwrap_or_default().to_owned();
        Ok((snapshot, stack))
    }
}

#[async_trait]
impl Platform for Kubernetes {
    fn name(&self) -> model::Platform {
        model::Platform::Kubernetes
    }

    fn listen(&mut self, events: &Events) {
        self.events = events.clone();
    }

    async fn facts(&self, stack: &Stack) -> Vec<Check> {
        // Another manager is asked without the cluster.
        let commands = self.options.manager.is_none() && commands::takers(stack).next().is_some();
        facts::facts(self.cluster().await.map(Arc::as_ref), commands).await
    }

    fn locks_first(&self) -> bool {
        false
    }

    async fn lock(&self, deployment: &str, events: &Events) -> Result<Box<dyn Lock>, Report> {
        let cluster = self.cluster().await?;
        if self.options.create_namespace {
            facts::make_namespace(cluster).await?;
        }
        // The Lease is the first change. Where nothing was planned there is nothing to be made.
        self.mint(deployment).await?;
        let seen = {
            let session = self.session();
            let lease =
                session.snapshot.as_ref().map(|snapshot| snapshot.record.as_ref().and_then(|r| r.lease.clone()));
            lease.map(|lease| Seen { lease, record: session.record(deployment) })
        };
        let (done, released) = oneshot::channel();
        // Before it is taken: a call that is cut short in the middle of that has something to give back too.
        self.session().released = Some(released);
        let guard = lease::take(cluster, deployment, seen, events, done).await?;
        let mut session = self.session();
        session.held = guard.held();
        session.recorded = guard.is_seamless();
        Ok(Box::new(guard))
    }

    async fn observe(&self, deployment: &str) -> Result<Vec<Observed>, Report> {
        let snapshot = self.look(deployment).await?;
        let daemons = snapshot.daemons().into_iter().map(survey::observed_daemon);
        Ok(daemons.chain(survey::recorded(&snapshot)).collect())
    }

    async fn survey(&self, deployment: &str, stack: &Stack, inputs: &Inputs) -> Result<Survey, Report> {
        let cluster = self.cluster().await?;
        let place = Place::of(cluster, &self.options, deployment, stack);
        let (snapshot, place) = tokio::try_join!(self.look(deployment), place)?;
        let (survey, wanted) =
            survey::survey(cluster, &self.options, deployment, stack, inputs, &snapshot, place.as_ref()).await?;
        let mut session = self.session();
        session.wanted = Arc::new(wanted);
        session.place = place.map(Arc::new);
        session.stack = Some((stack.id.clone(), survey::entries(stack, inputs)));
        session.changed = false;
        Ok(survey)
    }

    async fn rehearse(&self, deployment: &str, _plan: &Plan) -> Result<(), Report> {
        let cluster = self.cluster().await?;
        if self.options.create_namespace && !facts::has_namespace(cluster).await? {
            // There is nothing yet that could say no.
            return Ok(());
        }
        let (snapshot, wanted) = (self.snapshot(deployment).await?, Arc::clone(&self.session().wanted));
        let forced = rehearsal::rehearse(cluster, deployment, &snapshot, &wanted, self.options.force_conflicts).await?;
        self.session().forced = Arc::new(forced);
        Ok(())
    }

    async fn begin(&self, deployment: &str, _stack: &Stack) -> Result<(), Report> {
        self.mint(deployment).await?;
        let patch = {
            let mut session = self.session();
            session.changed = true;
            session.record(deployment).filter(|_| !session.recorded)
        };
        if let Some(patch) = patch {
            let name = record::lease_name(deployment);
            self.cluster().await?.merge(kind::Kind::Lease, &name, &patch, api::MANAGER).await?;
        }
        self.put_callers(deployment, false).await
    }

    /// All: what limits them is the number of requests under way.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    async fn apply(
        &self,
        deployment: &str,
        stack: &Stack,
        desired: &Desired,
        action: Action,
        events: &Events,
    ) -> Result<(), Report> {
        if desired.kind != model::ResourceType::Daemon.as_str() {
            // It is outside; what is known of it was written down when the deploy began.
            events.resource(&desired.id, action, "running", None);
            return Ok(());
        }
        let cluster = self.cluster().await?;
        let snapshot = self.snapshot(deployment).await?;
        let (wanted, forced, held, minted) = {
            let session = self.session();
            let minted = Arc::clone(&session.minted);
            (Arc::clone(&session.wanted), Arc::clone(&session.forced), session.held.clone(), minted)
        };
        let owner = Owner { deployment, stack: &stack.id, id: &desired.id };
        let feed = self.feed(deployment).await?;
        let change = Change { cluster, feed, snapshot: &snapshot, owner, action, events, held: &held };
        if action == Action::Restart {
            return change.restart().await;
        }
        let wanted = wanted.get(&desired.id);
        let wanted =
            wanted.ok_or_else(|| Report::new("INTERNAL_ERROR", format!("{:?} was not planned", desired.id)))?;
        change.make(wanted, minted.tokens.get(&desired.id), &forced, self.options.on_failure).await?;
        if wanted.leaves {
            return self.leaves(owner).await;
        }
        self.put_callers(deployment, true).await
    }

    async fn wait_up(&self, deployment: &str, id: &str, kind: &str) -> Result<(), Report> {
        if kind != model::ResourceType::Daemon.as_str() {
            return Ok(());
        }
        let cluster = self.cluster().await?;
        let snapshot = self.snapshot(deployment).await?;
        let name = model::names::kubernetes_name(deployment, id);
        let Some(live) = snapshot.get(kind::Kind::Deployment, &name) else { return Ok(()) };
        if rollout::is_up(live) {
            return Ok(());
        }
        let feed = self.feed(deployment).await?;
        let (action, events) = (Action::None, &self.events);
        let rollout = rollout::Rollout { cluster, feed, applied: live, id, action, events, new_credentials: false };
        rollout.wait().await.map_err(|stopped| rollout.report(stopped))
    }

    async fn remove(&self, deployment: &str, id: &str, kind: &str, events: &Events) -> Result<(), Report> {
        if kind != model::ResourceType::Daemon.as_str() {
            events.resource(id, Action::Delete, "removed", None);
            return Ok(());
        }
        let cluster = self.cluster().await?;
        let snapshot = self.snapshot(deployment).await?;
        self.session().changed = true;
        removal::remove(cluster, self.feed(deployment).await?, id, &snapshot, events).await?;
        let owner = Owner { deployment, stack: "", id };
        let name = owner.name();
        match snapshot.of_daemon(id).any(|object| commands::is_token(object, &name)) {
            true => self.leaves(owner).await,
            false => Ok(()),
        }
    }

    async fn end(&self, deployment: &str, _data: bool) -> Result<(), Report> {
        self.dismiss_callers(deployment).await?;
        // Everything that daemons store is outside: there is no data to keep or to remove.
        self.cluster().await?.delete(kind::Kind::Lease, &record::lease_name(deployment), false).await
    }

    async fn list(&self) -> Result<Vec<String>, Report> {
        status::list(self.cluster().await?).await
    }

    async fn status(&self, deployment: &str) -> Result<DeploymentStatus, Report> {
        let cluster = self.cluster().await?;
        let (known, changed, stack) = {
            let session = self.session();
            (session.snapshot.clone(), session.changed, session.stack.clone())
        };
        match (known, self.feed.get().and_then(Feed::snapshot), stack) {
            // Nothing was done, so it is as it was seen; warnings about what is up are history.
            (Some(snapshot), ..) if !changed && survey::is_there(&snapshot) => {
                Ok(status::status(deployment, &snapshot, &[]))
            }
            // What has become of it was watched.
            (_, Some(mut snapshot), Some((stack, entries))) if changed => {
                snapshot.record = Some(Record::written(stack, entries));
                status::of(cluster, deployment, &snapshot, notices::warnings(cluster).await?).await
            }
            _ => {
                let (snapshot, warnings) = tokio::join!(self.look(deployment), notices::warnings(cluster));
                status::of(cluster, deployment, &*snapshot?, warnings?).await
            }
        }
    }

    async fn watch(&self, deployment: &str) -> Result<Box<dyn StatusWatch>, Report> {
        let cluster = self.cluster().await?;
        Ok(Box::new(watch::Watch::open(cluster, deployment).await?))
    }

    async fn restart(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        let (snapshot, stack) = self.with_daemon(deployment, id).await?;
        let owner = Owner { deployment, stack: &stack, id };
        let (cluster, feed, held) = (self.cluster().await?, self.feed(deployment).await?, Held::default());
        Change { cluster, feed, snapshot: &snapshot, owner, action: Action::Restart, events, held: &held }
            .restart()
            .await
    }

    async fn rollback(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        let (snapshot, stack) = self.with_daemon(deployment, id).await?;
        let owner = Owner { deployment, stack: &stack, id };
        let (cluster, feed, held) = (self.cluster().await?, self.feed(deployment).await?, self.session().held.clone());
        let change = Change { cluster, feed, snapshot: &snapshot, owner, action: Action::Update, events, held: &held };
        let former = change.former()?;
        if let Some(secret) = former.deployment().and_then(commands::secret_of) {
            self.mint_again(owner, secret, &snapshot).await?;
        }
        change.roll_back().await
    }

    async fn logs(&self, deployment: &str, id: &str, options: LogOptions) -> Result<Box<dyn LogReader>, Report> {
        if options.follow && options.previous {
            let message = "the run before has ended, and cannot be followed";
            return Err(Report::new("INVALID_OPTIONS", message).status(400).hint("give previous or follow, not both"));
        }
        self.with_daemon(deployment, id).await?;
        Ok(Box::new(logs::open(Arc::clone(self.cluster().await?), deployment, id, options)))
    }

    async fn exec(&self, deployment: &str, id: &str, options: ExecOptions) -> Result<ExecSession, Report> {
        self.with_daemon(deployment, id).await?;
        exec::exec(self.cluster().await?, deployment, id, options).await
    }

    async fn install_manager(&self, wanted: &Install, events: &Events) -> Result<serde_json::Value, Report> {
        manager::install(self.cluster().await?, &self.options, wanted, events).await
    }

    async fn uninstall_manager(&self, wanted: Uninstall, events: &Events) -> Result<serde_json::Value, Report> {
        manager::uninstall(self.cluster().await?, wanted, events).await
    }

    async fn settle(&self) {
        let released = self.session().released.take();
        if let Some(released) = released {
            let _ = tokio::time::timeout(SETTLE, released).await;
        }
    }
}
