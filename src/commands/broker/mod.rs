//! Who waits for what: the commands that have not ended, in memory, and everybody who waits for one.
//!
//! What is decided is decided here, under one lock, by [`Command`]'s rules; what must not be lost is on disk before
//! anybody is told. The lock is never held while something is waited for.

mod held;
mod time;
mod uploads;

use super::blobs::{Blobs, Part};
use super::clock::{Millis, millis, now};
use super::command::{Command, Lease, Outcome, Refused};
use super::limits::Limits;
use super::metrics::Metrics;
use super::protocol::State;
use super::store::{Broken, Made, Store};
use held::{Inner, enqueue};
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

    /// Hands a receiver its next commands, waiting for the first one as long as it says.
    pub async fn acquire(&self, key: &Key, most: usize, lease: Duration, time: Duration) -> Vec<Arc<Command>> {
        let deadline = tokio::time::Instant::now() + time;
        let asked_at = now();
        let mut closing = self.closing.subscribe();
        loop {
            let wake = {
                let mut inner = self.inner();
                if let Some(queue) = inner.queues.get(key).filter(|queue| queue.ended_at >= asked_at) {
                    // What woke it is for the program that comes next.
                    queue.wake.notify_one();
                    return Vec::new();
                }
                let handed = self.hand_out(&mut inner, key, most, lease);
                let wake = Arc::clone(&inner.queues.entry(key.clone()).or_default().wake);
                if !handed.is_empty() || time.is_zero() || *closing.borrow() {
                    drop(wake);
                    inner.tidy(key);
                    return handed;
                }
                wake
            };
            tokio::select! {
                // A permit is kept where nobody waited, so nothing that comes now is missed.
                () = wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    drop(wake);
                    self.inner().tidy(key);
                    return Vec::new();
                }
                () = closed(&mut closing) => return Vec::new(),
            }
        }
    }

    fn hand_out(&self, inner: &mut Inner, key: &Key, most: usize, time: Duration) -> Vec<Arc<Command>> {
        let mut handed = Vec::new();
        let Some(queue) = inner.queues.get_mut(key) else { return handed };
        let now = now();
        while handed.len() < most {
            let Some((_, id)) = queue.pending.pop_first() else { break };
            let Some(open) = inner.open.get_mut(&id) else { continue };
            let lease = Lease { id: format!("lease_{}", uuid::Uuid::now_v7()), expires_at: now + millis(time) };
            if open.ending || open.change(|command| command.lease(lease.clone())).is_err() {
                continue;
            }
            inner.leases.insert(lease.id, id.clone());
            open.schedule(&mut inner.due);
            self.store.note(&open.command);
            handed.push(Arc::clone(&open.command));
        }
        if !queue.pending.is_empty() {
            // Another receiver of the same daemon may wait.
            queue.wake.notify_one();
        }
        self.metrics.leased(handed.len());
        if !handed.is_empty() {
            self.sooner.notify_one();
        }
        handed
    }

    /// Whose command a lease is of.
    pub fn leased(&self, lease: &str) -> Option<Arc<Command>> {
        let inner = self.inner();
        let open = inner.open.get(inner.leases.get(lease)?)?;
        Some(Arc::clone(&open.command))
    }

    /// Gives a receiver more time, and waits for the command to end otherwise. Gives when the lease runs out, and
    /// whether the command is wanted no more.
    pub async fn renew(
        &self,
        lease: &str,
        more: Duration,
        progress: Option<Value>,
        wait: Duration,
    ) -> Result<(Millis, bool), Failure> {
        let expires_at = now() + millis(more);
        let mut changes = {
            let mut inner = self.inner();
            let inner = &mut *inner;
            let id = inner.leases.get(lease).ok_or(Failure::Refused(Refused::StaleLease))?;
            let open = inner.open.get_mut(id).filter(|open| !open.ending);
            let open = open.ok_or(Failure::Refused(Refused::StaleLease))?;
            if let Some(progress) = progress {
                open.progress = Some(progress);
            }
            open.change(|command| command.renew(lease, expires_at)).map_err(Failure::Refused)?;
            open.schedule(&mut inner.due);
            self.store.note(&open.command);
            self.sooner.notify_one();
            open.tell.subscribe()
        };
        let mut closing = self.closing.subscribe();
        let gone = async {
            while changes.borrow_and_update().command.is_leased_by(lease) && changes.changed().await.is_ok() {}
        };
        tokio::select! {
            () = gone => {}
            () = tokio::time::sleep(wait) => {}
            () = closed(&mut closing) => {}
        }
        let seen = changes.borrow();
        if seen.command.is_leased_by(lease) {
            return Ok((expires_at, false));
        }
        // It has ended without this receiver; or it was taken back, and is to be handled again, by whoever has it then.
        if seen.command.state.is_terminal() {
            Ok((expires_at, true))
        } else {
            Err(Failure::Refused(Refused::StaleLease))
        }
    }

    /// Takes a command back from a receiver that cannot handle it now.
    pub async fn release(self: &Arc<Self>, lease: &str) -> Result<(), Failure> {
        let id = self.leased(lease).ok_or(Failure::Refused(Refused::StaleLease))?.id.clone();
        self.take_back(&id, lease, "its receiver gave it back").await
    }

    /// Takes back all that a daemon was given up to that moment: its program ended then. What the next one has stays.
    pub async fn receiver_ended(self: &Arc<Self>, key: &Key, at: Millis) -> Result<usize, Failure> {
        let held: Vec<(String, String)> = {
            let mut inner = self.inner();
            if let Some(queue) = inner.queues.get_mut(key) {
                queue.ended_at = at;
            }
            let of_key = inner.open.values().filter(|open| open.key() == *key);
            let leases = of_key.filter_map(|open| Some((&open.command.id, open.command.lease.as_ref()?)));
            let before = leases.filter(|(_, lease)| lease.given_at().is_none_or(|given| given <= at));
            before.map(|(id, lease)| (id.clone(), lease.id.clone())).collect()
        };
        for (id, lease) in &held {
            match self.take_back(id, lease, "its daemon ended").await {
                Ok(()) | Err(Failure::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(held.len())
    }

    async fn take_back(self: &Arc<Self>, id: &str, lease: &str, why: &str) -> Result<(), Failure> {
        let ended = {
            let mut inner = self.inner();
            let inner = &mut *inner;
            let open = inner.open.get_mut(id).filter(|open| open.command.is_leased_by(lease) && !open.ending);
            let open = open.ok_or(Failure::Refused(Refused::StaleLease))?;
            inner.leases.remove(lease);
            let most = self.limits.attempts;
            let mut next = open.command.as_ref().clone();
            next.take_back(now(), most, why);
            self.metrics.taken_back();
            if !next.state.is_terminal() {
                open.put(next);
                open.schedule(&mut inner.due);
                self.store.note(&open.command);
                enqueue(&mut inner.queues, open.key(), &open.command);
                // What its receiver has put there is nobody's result.
                self.blobs.remove(id, |part| *part == Part::Params);
                return Ok(());
            }
            open.ending = true;
            next
        };
        self.finish(ended).await.map(drop)
    }

    /// Ends a command with a result. `lease` is the one that the receiver says it has.
    pub async fn respond(self: &Arc<Self>, id: &str, lease: Option<&str>, outcome: Outcome) -> Result<Seen, Failure> {
        self.end(id, |command| command.respond(lease, outcome, now())).await
    }

    /// Ends a command because its caller wants no result any more.
    pub async fn cancel(self: &Arc<Self>, id: &str) -> Result<Seen, Failure> {
        self.end(id, |command| command.cancel(now())).await
    }

    async fn end(
        self: &Arc<Self>,
        id: &str,
        change: impl FnOnce(&mut Command) -> Result<(), Refused>,
    ) -> Result<Seen, Failure> {
        let ended = {
            let mut inner = self.inner();
            match inner.open.get_mut(id) {
                Some(open) => {
                    let mut next = open.command.as_ref().clone();
                    change(&mut next).map_err(Failure::Refused)?;
                    if open.ending {
                        // Somebody was quicker by less than a wait for the disk.
                        return Err(Failure::Refused(Refused::StaleLease));
                    }
                    open.ending = true;
                    Some(next)
                }
                None => None,
            }
        };
        match ended {
            Some(next) => self.finish(next).await,
            None => Err(self.ended(id).await),
        }
    }

    /// Keeps the end of a command that is marked as ending, and tells it.
    async fn finish(self: &Arc<Self>, ended: Command) -> Result<Seen, Failure> {
        let broker = Arc::clone(self);
        to_its_end(async move { broker.keep_end(ended).await }).await
    }

    async fn keep_end(&self, ended: Command) -> Result<Seen, Failure> {
        let kept = self.store.finish(&ended).await;
        let mut inner = self.inner();
        if let Err(broken) = kept {
            // It goes on as it was: whoever tries again may find a disk that works.
            let inner = &mut *inner;
            if let Some(open) = inner.open.get_mut(&ended.id) {
                open.ending = false;
                if open.command.state == State::Pending {
                    enqueue(&mut inner.queues, open.key(), &open.command);
                }
            }
            return Err(broken.into());
        }
        self.metrics.ended(&ended);
        self.blobs.remove(&ended.id, |part| match (&ended.outcome, part) {
            (Some(Outcome::Stored { lease: its, .. }), Part::Response { lease }) => lease == its,
            _ => false,
        });
        let Some(mut open) = inner.open.remove(&ended.id) else { return Err(Failure::NotFound) };
        if let Some(lease) = &open.command.lease {
            inner.leases.remove(&lease.id);
        }
        if let Some(queue) = inner.queues.get_mut(&open.key()) {
            queue.pending.remove(&ended.number);
            queue.uploading.remove(&ended.number);
        }
        inner.tidy(&open.key());
        open.put(ended);
        open.schedule(&mut inner.due);
        Ok(open.seen())
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
