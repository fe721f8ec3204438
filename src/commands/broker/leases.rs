//! The receivers' side: who has which command, and for how long.

use super::held::{Inner, Open, enqueue};
use super::{Broker, Failure, Key, closed};
use crate::commands::blobs::Part;
use crate::commands::clock::{Millis, millis, now};
use crate::commands::command::{Command, Lease, Refused};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

impl Broker {
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

    /// Whose a lease is, or was until its command was cancelled or expired.
    pub fn holder(&self, lease: &str) -> Option<Key> {
        let inner = self.inner();
        let open = inner.leases.get(lease).and_then(|id| inner.open.get(id));
        open.map(Open::key).or_else(|| inner.unwanted.get(lease, now()).map(|(key, _)| key.clone()))
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
            let Some(id) = inner.leases.get(lease) else {
                let unwanted = inner.unwanted.get(lease, now());
                return unwanted.map(|(_, at)| (*at, true)).ok_or(Failure::Refused(Refused::StaleLease));
            };
            let open = inner.open.get_mut(id).ok_or(Failure::Refused(Refused::StaleLease))?;
            if let Some(progress) = progress {
                open.progress = Some(progress);
            }
            open.change(|command| command.renew(lease, expires_at)).map_err(Failure::Refused)?;
            open.schedule(&mut inner.due);
            // One that is just being ended is told so in a moment; where the disk refuses that, it goes on.
            if !open.ending {
                self.store.note(&open.command);
            }
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
        let id = self.inner().leases.get(lease).cloned().ok_or(Failure::Refused(Refused::StaleLease))?;
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

    pub(super) async fn take_back(self: &Arc<Self>, id: &str, lease: &str, why: &str) -> Result<(), Failure> {
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
}
