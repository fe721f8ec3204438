//! How commands end: once, and on disk before anybody is told.

use super::held::enqueue;
use super::{Broker, Failure, Seen, to_its_end};
use crate::commands::blobs::Part;
use crate::commands::clock::now;
use crate::commands::command::{Command, Outcome, Refused};
use crate::commands::protocol::State;
use std::sync::Arc;

impl Broker {
    /// Ends a command with a result. `lease` is the one that the receiver says it has.
    pub async fn respond(self: &Arc<Self>, id: &str, lease: Option<&str>, outcome: Outcome) -> Result<Seen, Failure> {
        self.end(id, |command| command.respond(lease, outcome, now())).await
    }

    /// Ends a command because its caller wants no result any more.
    pub async fn cancel(self: &Arc<Self>, id: &str) -> Result<Seen, Failure> {
        self.end(id, |command| command.cancel(now())).await
    }

    pub(super) async fn end(
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
    pub(super) async fn finish(self: &Arc<Self>, ended: Command) -> Result<Seen, Failure> {
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
            if matches!(ended.state, State::Cancelled | State::Expired) {
                inner.unwanted.put(lease, open.key(), now());
            }
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
}
