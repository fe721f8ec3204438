//! Commands whose parameters come after them.

use super::held::enqueue;
use super::{Broker, Failure, Seen, to_its_end};
use crate::commands::command::{Refused, Stored};
use crate::commands::protocol::State;
use std::sync::Arc;

impl Broker {
    /// A command's parameters are there: it waits for its daemon, once that is on disk.
    pub async fn uploaded(self: &Arc<Self>, id: &str, body: Stored) -> Result<Seen, Failure> {
        let (broker, id) = (Arc::clone(self), id.to_owned());
        to_its_end(async move { broker.keep_upload(&id, body).await }).await
    }

    async fn keep_upload(&self, id: &str, body: Stored) -> Result<Seen, Failure> {
        let next = {
            let inner = self.inner();
            inner.open.get(id).map(|open| open.command.as_ref().clone())
        };
        let Some(mut next) = next else { return Err(self.ended(id).await) };
        next.complete(body).map_err(Failure::Refused)?;
        self.store.uploaded(&next).await?;
        let seen = {
            let mut inner = self.inner();
            let inner = &mut *inner;
            inner.open.get_mut(id).map(|open| {
                // Somebody may have said the same meanwhile, or have begun to end it: then it goes into no queue.
                if open.command.state == State::PendingUpload {
                    open.put(next);
                    open.schedule(&mut inner.due);
                    if !open.ending {
                        enqueue(&mut inner.queues, open.key(), &open.command);
                    }
                }
                open.seen()
            })
        };
        match seen {
            Some(seen) => Ok(seen),
            None => Err(self.ended(id).await),
        }
    }

    /// Why nothing can be done to a command that is not open any more.
    pub(super) async fn ended(&self, id: &str) -> Failure {
        match self.store.find(id).await {
            Ok(Some(command)) => Failure::Refused(Refused::Ended(command.state)),
            Ok(None) => Failure::NotFound,
            Err(broken) => broken.into(),
        }
    }
}
