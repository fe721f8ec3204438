//! Leases of commands that were ended by somebody else: cancelled, or expired.
//!
//! A receiver that waits with a renewal hears of that end at once. One that has not asked yet does so within its lease, and is
//! to hear the same, not that the command might be somebody else's now. So these are remembered until the lease would have
//! run out. A manager that starts anew has forgotten them.

use super::Key;
use crate::commands::clock::Millis;
use crate::commands::command::Lease;
use std::collections::{BTreeSet, HashMap};

/// About a MiB; beyond, those go first that would run out first.
const MOST: usize = 10_000;

#[derive(Default)]
pub struct Unwanted {
    /// Whose each was, and until when.
    leases: HashMap<String, (Key, Millis)>,
    /// By when they would have run out.
    order: BTreeSet<(Millis, String)>,
}

impl Unwanted {
    /// Remembers a lease.
    pub fn put(&mut self, lease: &Lease, key: Key, now: Millis) {
        self.order.insert((lease.expires_at, lease.id.clone()));
        self.leases.insert(lease.id.clone(), (key, lease.expires_at));
        while self.order.first().is_some_and(|(at, _)| *at <= now || self.order.len() > MOST) {
            if let Some((_, gone)) = self.order.pop_first() {
                self.leases.remove(&gone);
            }
        }
    }

    /// Whose a lease was, and when it would have run out.
    pub fn get(&self, lease: &str, now: Millis) -> Option<&(Key, Millis)> {
        self.leases.get(lease).filter(|(_, at)| *at > now)
    }
}
