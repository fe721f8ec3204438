//! What is held in memory: commands that have not ended, and for each daemon those that wait.

use super::unwanted::Unwanted;
use super::{Key, Seen};
use crate::commands::clock::Millis;
use crate::commands::command::{Command, Refused};
use crate::commands::protocol::{State, Target};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// A command that has not ended.
pub struct Open {
    pub command: Arc<Command>,
    pub progress: Option<Value>,
    /// Told of every change; the last one before it is dropped is the end.
    pub tell: watch::Sender<Seen>,
    /// Its end is on its way to the disk: nobody else may end it or hand it out meanwhile, and nothing else of it is written.
    pub ending: bool,
    /// Its moment in [`Inner::due`].
    pub due: Option<Millis>,
}

/// When something happens to commands by itself. One moment for each that has not ended, so that neither renewals nor
/// far deadlines make it grow.
pub type Due = BTreeSet<(Millis, String)>;

/// What waits for one daemon.
#[derive(Default)]
pub struct Queue {
    /// By number: a daemon gets its commands in the order in which they were made.
    pub pending: BTreeMap<i64, String>,
    pub wake: Arc<Notify>,
    /// Those whose parameters are still to come, by number. They count for the limit too.
    pub uploading: HashSet<i64>,
    /// When its program ended last: whoever asked before that is no more.
    pub ended_at: Millis,
    /// Commands on their way to the disk, which count for the limit already.
    pub coming: usize,
}

#[derive(Default)]
pub struct Inner {
    pub open: HashMap<String, Open>,
    pub queues: HashMap<Key, Queue>,
    /// Command by lease.
    pub leases: HashMap<String, String>,
    pub unwanted: Unwanted,
    pub due: Due,
}

impl Open {
    pub fn key(&self) -> Key {
        let Target { resource_id, .. } = &self.command.target;
        (self.command.deployment.clone(), resource_id.clone())
    }

    pub fn seen(&self) -> Seen {
        Seen { command: Arc::clone(&self.command), progress: self.progress.clone() }
    }

    pub fn put(&mut self, command: Command) {
        self.command = Arc::new(command);
        self.tell.send_replace(self.seen());
    }

    /// Puts down when something happens to it by itself next.
    pub fn schedule(&mut self, due: &mut Due) {
        self.schedule_at(self.command.due(), due);
    }

    pub fn schedule_at(&mut self, at: Option<Millis>, due: &mut Due) {
        if at == self.due {
            return;
        }
        if let Some(old) = self.due.take() {
            due.remove(&(old, self.command.id.clone()));
        }
        due.extend(at.map(|at| (at, self.command.id.clone())));
        self.due = at;
    }

    pub fn change(&mut self, change: impl FnOnce(&mut Command) -> Result<(), Refused>) -> Result<(), Refused> {
        let mut next = self.command.as_ref().clone();
        change(&mut next)?;
        self.put(next);
        Ok(())
    }
}

/// Lets a command wait for its daemon, in its place, and wakes a receiver.
pub fn enqueue(queues: &mut HashMap<Key, Queue>, key: Key, command: &Command) {
    let queue = queues.entry(key).or_default();
    queue.uploading.remove(&command.number);
    queue.pending.insert(command.number, command.id.clone());
    queue.wake.notify_one();
}

impl Inner {
    /// Takes in a command that is on disk.
    pub fn take_in(&mut self, command: Command) -> Seen {
        let command = Arc::new(command);
        let seen = Seen { command: Arc::clone(&command), progress: None };
        let mut open = Open {
            command: Arc::clone(&command),
            progress: None,
            tell: watch::Sender::new(seen.clone()),
            ending: false,
            due: None,
        };
        if let Some(lease) = &command.lease {
            self.leases.insert(lease.id.clone(), command.id.clone());
        } else if command.state == State::PendingUpload {
            self.queues.entry(open.key()).or_default().uploading.insert(command.number);
        } else {
            enqueue(&mut self.queues, open.key(), &command);
        }
        open.schedule(&mut self.due);
        self.open.insert(command.id.clone(), open);
        seen
    }

    /// Forgets a queue that nobody waits for or in.
    pub fn tidy(&mut self, key: &Key) {
        let empty = |queue: &Queue| queue.pending.is_empty() && queue.uploading.is_empty() && queue.coming == 0;
        let idle = |queue: &Queue| empty(queue) && Arc::strong_count(&queue.wake) == 1;
        if self.queues.get(key).is_some_and(idle) {
            self.queues.remove(key);
        }
    }
}
