//! The manager's memory and its store, killed at any moment of any sequence of events: what somebody was told is so, and what
//! nobody was told has happened whole or not at all.
//!
//! A crash is a copy of the database's files as they are at that moment, in the middle of whatever the writer does: what a
//! manager finds that starts after kill -9.

use alien_core::commands::blobs::Blobs;
use alien_core::commands::broker::{Broker, Failure, Key};
use alien_core::commands::command::{Command, Outcome, Refused};
use alien_core::commands::limits::Limits;
use alien_core::commands::protocol::{State, Target};
use alien_core::commands::store::{Sqlite, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const ATTEMPTS: u32 = 3;
const LEASE: Duration = Duration::from_secs(3600);

/// Commands are named by their place among those made, keys by number.
#[derive(Debug, Clone)]
enum Event {
    Create {
        key: Option<u8>,
    },
    Acquire {
        most: usize,
    },
    Respond {
        which: usize,
    },
    Release {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    /// A result and a cancellation at once.
    Race {
        which: usize,
    },
    /// With something under way that nobody has been told of, after so many turns of the runtime.
    Crash {
        during: During,
        turns: u8,
    },
}

#[derive(Debug, Clone)]
enum During {
    Nothing,
    Create { key: u8 },
    Respond { which: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let which = || 0usize..12;
    let during = prop_oneof![
        Just(During::Nothing),
        (100u8..200).prop_map(|key| During::Create { key }),
        which().prop_map(|which| During::Respond { which }),
    ];
    prop_oneof![
        5 => prop::option::of(0u8..4).prop_map(|key| Event::Create { key }),
        4 => (1usize..4).prop_map(|most| Event::Acquire { most }),
        4 => which().prop_map(|which| Event::Respond { which }),
        1 => which().prop_map(|which| Event::Release { which }),
        1 => which().prop_map(|which| Event::Cancel { which }),
        2 => which().prop_map(|which| Event::Race { which }),
        2 => (during, 0u8..6).prop_map(|(during, turns)| Event::Crash { during, turns }),
    ]
}

/// What is known of a command by those who were told.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    number: i64,
    /// The lease that its receiver has.
    lease: Option<String>,
    attempt: u32,
    end: Option<(State, Option<Vec<u8>>)>,
}

struct World {
    folders: Vec<TempDir>,
    broker: Arc<Broker>,
    store: Arc<dyn Store>,
    known: Vec<Known>,
    keys: BTreeMap<u8, String>,
    results: u64,
}

async fn open(dir: &Path) -> (Arc<Broker>, Arc<dyn Store>) {
    let limits = Limits { attempts: ATTEMPTS, ..Limits::default() };
    let store = Sqlite::open(&dir.join("commands.db"), u64::MAX, Arc::default()).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let blobs = Blobs::open(dir.join("blobs"), &limits).expect("a folder for bodies");
    let broker = Broker::open(Arc::clone(&store), blobs, limits, Arc::default()).await.expect("a broker");
    (broker, store)
}

fn queue() -> Key {
    ("edge".to_owned(), "worker".to_owned())
}

fn command(key: Option<u8>) -> Command {
    Command {
        id: format!("cmd_{}", uuid::Uuid::now_v7()),
        number: 0,
        deployment: "edge".to_owned(),
        target: Target { resource_id: "worker".to_owned(), resource_type: "daemon".to_owned() },
        name: "go".to_owned(),
        params: b"null".as_slice().into(),
        upload: None,
        created_at: alien_core::commands::clock::now(),
        deadline: None,
        idempotency_key: key.map(|key| format!("key-{key}")),
        traceparent: None,
        tracestate: None,
        state: State::Pending,
        attempt: 1,
        lease: None,
        outcome: None,
        finished_at: None,
    }
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let (broker, store) = open(folder.path()).await;
        World { folders: vec![folder], broker, store, known: Vec::new(), keys: BTreeMap::new(), results: 0 }
    }

    fn folder(&self) -> PathBuf {
        self.folders.last().expect("a folder").path().to_owned()
    }

    fn at(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.known.len())
    }

    /// Results tell which of all answers counted.
    fn result(&mut self) -> Vec<u8> {
        self.results += 1;
        self.results.to_string().into_bytes()
    }

    async fn create(&mut self, key: Option<u8>) {
        let made = self.broker.create(command(key)).await.expect("a command").command;
        if let Some(id) = key.and_then(|key| self.keys.get(&key)) {
            assert_eq!(&made.id, id, "the same key is the same command");
            return;
        }
        self.keys.extend(key.map(|key| (key, made.id.clone())));
        assert!(self.known.iter().all(|known| known.number < made.number), "commands are numbered as they are made");
        self.known.push(Known {
            id: made.id.clone(),
            number: made.number,
            lease: None,
            attempt: made.attempt,
            end: None,
        });
    }

    async fn acquire(&mut self, most: usize) {
        let handed = self.broker.acquire(&queue(), most, LEASE, Duration::ZERO).await;
        let waiting: Vec<usize> = (0..self.known.len())
            .filter(|at| self.known[*at].end.is_none() && self.known[*at].lease.is_none())
            .collect();
        let ids: Vec<&str> = handed.iter().map(|command| command.id.as_str()).collect();
        let expected: Vec<&str> = waiting.iter().take(most).map(|at| self.known[*at].id.as_str()).collect();
        assert_eq!(ids, expected, "a daemon gets what waits, in the order in which it was made");
        for (at, command) in waiting.into_iter().zip(&handed) {
            let lease = command.lease.as_ref().expect("a lease");
            self.known[at].lease = Some(lease.id.clone());
            assert_eq!(command.attempt, self.known[at].attempt);
        }
    }

    async fn respond(&mut self, which: usize) {
        let Some(at) = self.at(which) else { return };
        let result = self.result();
        let known = &mut self.known[at];
        let lease = known.lease.clone().unwrap_or_else(|| "lease_of-nobody".to_owned());
        let said = self.broker.respond(&known.id, Some(&lease), Outcome::Success(result.clone())).await;
        match (&known.end, &known.lease) {
            (Some((state, _)), _) => assert!(matches!(said, Err(Failure::Refused(Refused::Ended(is))) if is == *state)),
            (None, None) => assert!(matches!(said, Err(Failure::Refused(Refused::StaleLease)))),
            (None, Some(_)) => {
                said.expect("a result");
                (known.lease, known.end) = (None, Some((State::Succeeded, Some(result))));
            }
        }
    }

    async fn release(&mut self, which: usize) {
        let Some(at) = self.at(which) else { return };
        let known = &mut self.known[at];
        let Some(lease) = known.lease.take() else { return };
        self.broker.release(&lease).await.expect("a release");
        if known.attempt == ATTEMPTS {
            known.end = Some((State::Failed, None));
        } else {
            known.attempt += 1;
        }
    }

    async fn cancel(&mut self, which: usize) {
        let Some(at) = self.at(which) else { return };
        let known = &mut self.known[at];
        let said = self.broker.cancel(&known.id).await;
        assert_eq!(said.is_ok(), known.end.is_none());
        if known.end.is_none() {
            (known.lease, known.end) = (None, Some((State::Cancelled, None)));
        }
    }

    async fn race(&mut self, which: usize) {
        let Some(at) = self.at(which) else { return };
        let result = self.result();
        let known = &mut self.known[at];
        let (Some(lease), None) = (known.lease.clone(), &known.end) else { return };
        let answer = self.broker.respond(&known.id, Some(&lease), Outcome::Success(result.clone()));
        let (answered, cancelled) = tokio::join!(answer, self.broker.cancel(&known.id));
        known.lease = None;
        known.end = Some(match (answered.is_ok(), cancelled.is_ok()) {
            (true, false) => (State::Succeeded, Some(result)),
            (false, true) => (State::Cancelled, None),
            both => panic!("one of the two ends it, not {both:?}"),
        });
    }

    async fn crash(&mut self, during: &During, turns: u8) {
        let broker = Arc::clone(&self.broker);
        let mut result = None;
        match during {
            During::Nothing => {}
            During::Create { key } => {
                let command = command(Some(*key));
                tokio::spawn(async move { broker.create(command).await.map(drop) });
            }
            During::Respond { which } => {
                if let Some(at) = self.at(*which)
                    && let (Some(lease), None) = (self.known[at].lease.clone(), &self.known[at].end)
                {
                    let (id, answer) = (self.known[at].id.clone(), self.result());
                    result = Some((at, answer.clone()));
                    tokio::spawn(
                        async move { broker.respond(&id, Some(&lease), Outcome::Success(answer)).await.map(drop) },
                    );
                }
            }
        }
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let next = tempfile::tempdir().expect("a folder");
        for name in ["commands.db", "commands.db-wal"] {
            fs::copy(self.folder().join(name), next.path().join(name)).expect("a copy");
        }
        (self.broker, self.store) = open(next.path()).await;
        self.folders.push(next);
        self.find_out(result).await;
        // Whoever was not told asks again, and it is done once.
        if let During::Create { key } = during {
            self.take_in(*key).await;
        }
    }

    /// What those find who were told something before the crash.
    async fn find_out(&mut self, under_way: Option<(usize, Vec<u8>)>) {
        for (at, known) in self.known.iter_mut().enumerate() {
            let found = self.broker.find(&known.id).await.expect("what was made is there").command;
            assert_eq!(found.number, known.number);
            if known.end.is_some() {
                continue;
            }
            // Who had it may be known or not: then it is delivered again.
            let answer = under_way.as_ref().filter(|(which, _)| *which == at).map(|(_, answer)| answer.clone());
            match (found.state, &known.lease, answer) {
                (State::Succeeded, _, Some(answer)) => {
                    (known.lease, known.end) = (None, Some((State::Succeeded, Some(answer))));
                }
                (State::Pending, ..) => known.lease = None,
                (State::Dispatched, Some(lease), _) if found.is_leased_by(lease) => {}
                // It was given back, and that is not known; nor who may have got it since.
                (State::Dispatched, ..) => {
                    let lease = found.lease.as_ref().expect("a lease").id.clone();
                    self.broker.release(&lease).await.expect("a release");
                    known.lease = None;
                    known.end = (found.attempt == ATTEMPTS).then_some((State::Failed, None));
                }
                (state, lease, answer) => panic!("{state:?}, with lease {lease:?} and answer {answer:?}"),
            }
            let found = self.broker.find(&known.id).await.expect("it is there").command;
            assert!(found.attempt <= known.attempt, "no attempt is counted that was not made");
            known.attempt = found.attempt;
        }
    }

    /// A command whose maker was not told before the crash.
    async fn take_in(&mut self, key: u8) {
        self.create(Some(key)).await;
    }

    /// All that somebody was told is so.
    async fn check(&self) {
        for known in &self.known {
            let found = self.broker.find(&known.id).await.expect("what was made is there").command;
            match &known.end {
                None => assert_eq!(found.state, if known.lease.is_some() { State::Dispatched } else { State::Pending }),
                Some((state, result)) => {
                    assert_eq!(found.state, *state);
                    if let Some(result) = result {
                        assert_eq!(found.outcome, Some(Outcome::Success(result.clone())));
                    }
                }
            }
        }
        let open = self.store.open_commands().await.expect("open commands");
        assert!(open.iter().all(|open| self.known.iter().any(|known| known.id == open.id)), "nothing is made up");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_somebody_was_told_outlives_any_crash(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for event in &events {
                match event {
                    Event::Create { key } => world.create(*key).await,
                    Event::Acquire { most } => world.acquire(*most).await,
                    Event::Respond { which } => world.respond(*which).await,
                    Event::Release { which } => world.release(*which).await,
                    Event::Cancel { which } => world.cancel(*which).await,
                    Event::Race { which } => world.race(*which).await,
                    Event::Crash { during, turns } => world.crash(during, *turns).await,
                }
                world.check().await;
            }
        });
    }
}
