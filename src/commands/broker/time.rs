//! What happens by itself: leases and deadlines that run out, and the end of what ended long ago.

use super::{Broker, Failure, closed};
use crate::commands::clock::{Millis, millis, now};
use crate::commands::command::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How late the clock may notice that something ran out, and how often it looks for what to forget.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// After how many milliseconds it tries again to end what could not be ended.
const AGAIN: Millis = 1000;
/// Commands forgotten in one commit, so that no caller waits long behind it.
const FORGET_AT_ONCE: usize = 500;

impl Broker {
    /// Ends what runs out, and forgets what ended long ago, until the manager ends.
    pub async fn keep_time(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        let mut forget = tokio::time::interval(FORGET_EVERY);
        forget.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = self.inner().due.first().map(|(at, _)| *at);
            let pause = next.map_or(FORGET_EVERY, |at| Duration::from_millis(at.saturating_sub(now())));
            tokio::select! {
                () = tokio::time::sleep(pause) => self.run_out().await,
                () = self.sooner.notified() => {}
                _ = forget.tick() => self.forget().await,
                () = closed(&mut closing) => return,
            }
        }
    }

    async fn run_out(self: &Arc<Self>) {
        let now = now();
        let mut ends = JoinSet::new();
        {
            let mut inner = self.inner();
            let inner = &mut *inner;
            while inner.due.first().is_some_and(|(at, _)| *at <= now) {
                let Some((_, id)) = inner.due.pop_first() else { break };
                if let Some(open) = inner.open.get_mut(&id) {
                    open.due = None;
                    // Side by side: a thousand that run out at one moment share a commit.
                    ends.spawn(Arc::clone(self).run_out_one(Arc::clone(&open.command), now));
                }
            }
        }
        while ends.join_next().await.is_some() {}
    }

    async fn run_out_one(self: Arc<Self>, command: Arc<Command>, now: Millis) {
        let outcome = match &command.lease {
            _ if command.expires_at().is_some_and(|at| at <= now) => {
                self.end(&command.id, |command| command.expire(now)).await.map(drop)
            }
            Some(lease) if lease.expires_at <= now => {
                self.take_back(&command.id, &lease.id, "its receiver has not renewed its lease").await
            }
            _ => Ok(()),
        };
        // It may have been renewed or answered meanwhile, or the disk has failed: then it is looked at again.
        let again = match outcome {
            Err(Failure::Broken(broken)) => {
                tracing::error!(%broken, command = command.id, "what ran out could not be ended; it is tried again");
                Some(now + AGAIN)
            }
            _ => None,
        };
        let mut inner = self.inner();
        let inner = &mut *inner;
        if let Some(open) = inner.open.get_mut(&command.id) {
            let ending = open.ending.then_some(now + AGAIN);
            open.schedule_at(again.or(ending).or(open.command.due()), &mut inner.due);
        }
    }

    async fn forget(&self) {
        let before = now().saturating_sub(millis(self.limits.retention));
        loop {
            match self.store.forget(before, FORGET_AT_ONCE).await {
                Ok(forgotten) => {
                    forgotten.stored.iter().for_each(|id| self.blobs.remove(id, |_| false));
                    if forgotten.count < FORGET_AT_ONCE {
                        return;
                    }
                }
                Err(broken) => return tracing::error!(%broken, "old commands could not be forgotten"),
            }
        }
    }
}
