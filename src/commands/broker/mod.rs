//! Who waits for what: the commands that have not ended, in memory, and everybody who waits for one.
//!
//! What is decided is decided here, under one lock, by [`Command`]'s rules; what must not be lost is on disk before
//! anybody is told. The lock is never held while something is waited for.

mod ends;
mod held;
mod leases;
mod time;
mod unwanted;
mod uploads;

use super::blobs::Blobs;
use super::clock::{Millis, now};
use super::command::{Command, Refused};
use super::limits::Limits;
use super::metrics::Metrics;
use super::protocol::State;
use super::store::{Broken, Made, Store};
use held::Inner;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A daemon's commands.
pub type Key = (String, String);

/// How a command is, with what its handler told of its progress.
#[derive(Debug, Clone)]
pub struct Seen {
    pub command: Arc<Command>,
    pub progress: Option<Value>,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Failure {
    NotFound,
    Refused(Refused),
    /// Too many wait for that daemon already.
    Full {
        pending: usize,
    },
    /// The store has as many bytes as it may.
    NoRoom {
        bytes: u64,
    },
    /// The idempotency key belongs to a command with another name, target or parameters.
    KeyTaken {
        id: String,
    },
    Broken(Broken),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Failure::Broken(broken)
    }
}

/// See the module.
pub struct Broker {
    inner: Mutex<Inner>,
    store: Arc<dyn Store>,
    blobs: Arc<Blobs>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Wakes the clock where something runs out earlier than it thought.
    sooner: Notify,
    /// True once the manager is ending: nobody waits any longer.
    closing: watch::Sender<bool>,
}

impl Broker {
    /// Takes up what had not ended, and removes the bodies that nobody needs.
    pub async fn open(
        store: Arc<dyn Store>,
        blobs: Arc<Blobs>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Broker>, Broken> {
        let mut inner = Inner::default();
        let commands = store.open_commands().await?;
        let swept = blobs.sweep(&commands, &store.stored_results().await?);
        swept.map_err(|error| Broken(format!("the bodies beside the database cannot be read: {error}")))?;
        for command in commands {
            inner.take_in(command);
        }
        let (closing, _) = watch::channel(false);
        let broker = Broker { inner: Mutex::new(inner), store, blobs, limits, metrics, sooner: Notify::new(), closing };
        Ok(Arc::new(broker))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every wait, now and from now on.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Makes a command; gives it once it is on disk, or the one that its idempotency key belongs to.
    pub async fn create(self: &Arc<Self>, command: Command) -> Result<Seen, Failure> {
        let broker = Arc::clone(self);
        to_its_end(async move { broker.make(command).await }).await
    }

    async fn make(&self, command: Command) -> Result<Seen, Failure> {
        let key = (command.deployment.clone(), command.target.resource_id.clone());
        let place = match self.reserve(&key) {
            // One that there is already takes no place.
            Err(full) => match self.store.keyed(&command).await? {
                Some(there) => return self.same(&there, &command).await,
                None => return Err(full),
            },
            Ok(place) => place,
        };
        let made = self.store.create(command.clone()).await?;
        match made {
            Made::There(there) => {
                drop(place);
                self.same(&there, &command).await
            }
            Made::NoRoom { bytes } => Err(Failure::NoRoom { bytes }),
            Made::New(number) => {
                let mut inner = self.inner();
                let seen = inner.take_in(Command { number, ..command });
                drop(inner);
                drop(place);
                self.metrics.created();
                self.sooner.notify_one();
                Ok(seen)
            }
        }
    }

    /// The command that an idempotency key belongs to, where it is the one that was sent with it now.
    async fn same(&self, there: &Command, command: &Command) -> Result<Seen, Failure> {
        let same = (&there.name, &there.target.resource_id, &there.params)
            == (&command.name, &command.target.resource_id, &command.params);
        let beside = match (&there.upload, &command.upload) {
            (Some(there), Some(here)) => there.resembles(here),
            (there, here) => there == here,
        };
        if !same || !beside {
            return Err(Failure::KeyTaken { id: there.id.clone() });
        }
        self.find(&there.id).await
    }

    /// A place in a daemon's queue for a command that is on its way to the disk.
    fn reserve(&self, key: &Key) -> Result<Place<'_>, Failure> {
        let mut inner = self.inner();
        let queue = inner.queues.entry(key.clone()).or_default();
        let pending = queue.pending.len() + queue.uploading.len() + queue.coming;
        if pending >= self.limits.pending {
            return Err(Failure::Full { pending });
        }
        queue.coming += 1;
        Ok(Place { broker: self, key: key.clone() })
    }

    /// A command, in whatever state.
    pub async fn find(&self, id: &str) -> Result<Seen, Failure> {
        if let Some(open) = self.inner().open.get(id) {
            return Ok(open.seen());
        }
        let command = self.store.find(id).await?.ok_or(Failure::NotFound)?;
        Ok(Seen { command: Arc::new(command), progress: None })
    }

    /// A command once it has ended, or as it is when the time is over.
    pub async fn wait(&self, id: &str, time: Duration) -> Result<Seen, Failure> {
        let changes = self.inner().open.get(id).map(|open| open.tell.subscribe());
        let Some(mut changes) = changes else { return self.find(id).await };
        let mut closing = self.closing.subscribe();
        let ended = async {
            while !changes.borrow_and_update().command.state.is_terminal() {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(time) => {}
            () = closed(&mut closing) => {}
        }
        let seen = changes.borrow().clone();
        Ok(seen)
    }

    /// What waits and what is handed out, by daemon, with the age of what waits longest.
    pub fn depths(&self) -> Vec<(Key, usize, usize, Millis)> {
        let inner = self.inner();
        let mut depths: BTreeMap<Key, (usize, usize, Millis)> = BTreeMap::new();
        let now = now();
        for open in inner.open.values() {
            let depth = depths.entry(open.key()).or_default();
            match open.command.state {
                State::Pending => {
                    depth.0 += 1;
                    depth.2 = depth.2.max(now.saturating_sub(open.command.created_at));
                }
                State::Dispatched => depth.1 += 1,
                _ => {}
            }
        }
        depths.into_iter().map(|(key, (pending, leased, age))| (key, pending, leased, age)).collect()
    }
}

/// Counts a command that is not on disk yet.
struct Place<'a> {
    broker: &'a Broker,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.broker.inner();
        if let Some(queue) = inner.queues.get_mut(&self.key) {
            queue.coming -= 1;
        }
        inner.tidy(&self.key);
    }
}

/// Does something in a task of its own. A request is dropped where its client goes away, and what is on the disk but not
/// in memory, or the other way round, would stay so.
pub async fn to_its_end<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Broken> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(Broken(format!("it was not done: {error}")).into()),
    }
}

/// Returns once the manager is ending.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}
