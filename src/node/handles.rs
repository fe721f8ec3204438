//! Things that go on while JavaScript does something else, each under a number.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What is under way, by number.
pub struct Handles<T>(LazyLock<Mutex<Numbered<T>>>);

struct Numbered<T> {
    next: u32,
    held: HashMap<u32, T>,
}

impl<T> Handles<T> {
    pub const fn new() -> Self {
        Handles(LazyLock::new(|| Mutex::new(Numbered { next: 1, held: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Numbered<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps it; gives its number.
    pub fn put(&self, thing: T) -> u32 {
        let mut numbered = self.lock();
        let number = numbered.next;
        numbered.next = number.wrapping_add(1);
        numbered.held.insert(number, thing);
        number
    }

    /// Lets `work` see it, if it is there. It must not wait for anything.
    pub fn with<R>(&self, number: u32, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock().held.get_mut(&number).map(work)
    }

    /// Its own copy, if it is there.
    pub fn get(&self, number: u32) -> Option<T>
    where
        T: Clone,
    {
        self.lock().held.get(&number).cloned()
    }

    /// Forgets it, and gives it back.
    pub fn take(&self, number: u32) -> Option<T> {
        self.lock().held.remove(&number)
    }
}
