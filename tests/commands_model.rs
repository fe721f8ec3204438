//! What may become of a command, against a model that is written the other way round: not by states, but by what has
//! happened so far. Any sequence of events, also those that come late, twice or under a lease that is long gone.

use alien_core::commands::command::{Command, Lease, Outcome, Refused, Stored, UPLOAD_TIME, Upload};
use alien_core::commands::protocol::{State, Target};
use proptest::prelude::*;

/// Something that is done to a command; leases are named by which of those given it is, the newest first.
#[derive(Debug, Clone)]
enum Event {
    Complete,
    Lease { seconds: u64 },
    Renew { lease: usize, seconds: u64 },
    TakeBack,
    Respond { lease: Option<usize>, success: bool },
    Cancel,
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    // Two leases back are as good as any: what counts is whether it is the current one.
    let lease = 0usize..3;
    prop_oneof![
        2 => Just(Event::Complete),
        6 => (1u64..100).prop_map(|seconds| Event::Lease { seconds }),
        3 => (lease.clone(), 1u64..100).prop_map(|(lease, seconds)| Event::Renew { lease, seconds }),
        4 => Just(Event::TakeBack),
        2 => (prop::option::of(lease), any::<bool>()).prop_map(|(lease, success)| Event::Respond { lease, success }),
        1 => Just(Event::Cancel),
        1 => Just(Event::Expire),
    ]
}

fn command(deadline: Option<u64>, uploads: bool) -> Command {
    Command {
        id: "cmd_1".to_owned(),
        number: 1,
        deployment: "deployment".to_owned(),
        target: Target { resource_id: "worker".to_owned(), resource_type: "daemon".to_owned() },
        name: "go".to_owned(),
        params: b"null".as_slice().into(),
        upload: uploads.then(Upload::default),
        created_at: 0,
        deadline,
        idempotency_key: None,
        traceparent: None,
        tracestate: None,
        state: if uploads { State::PendingUpload } else { State::Pending },
        attempt: 1,
        lease: None,
        outcome: None,
        finished_at: None,
    }
}

/// All that has happened to a command, as somebody who watched it would write it down.
#[derive(Debug, Default)]
struct Model {
    /// Whether its parameters are still to come.
    uploads: bool,
    /// The leases that were given, and until when each is.
    leases: Vec<(String, u64)>,
    /// Whether somebody has the newest of them.
    held: bool,
    taken_back: u32,
    /// How and when it ended.
    end: Option<(State, u64)>,
}

impl Model {
    fn name(&self, back: usize) -> String {
        let found = self.leases.iter().rev().nth(back);
        found.map_or_else(|| format!("lease_never_{back}"), |(id, _)| id.clone())
    }

    fn is_current(&self, lease: &str) -> bool {
        self.end.is_none() && self.held && self.leases.last().is_some_and(|(id, _)| id == lease)
    }

    fn end(&mut self, state: State, now: u64) {
        self.end = Some((state, now));
        self.held = false;
    }

    fn state(&self) -> State {
        match self.end {
            Some((state, _)) => state,
            None if self.uploads => State::PendingUpload,
            None if self.held => State::Dispatched,
            None => State::Pending,
        }
    }

    /// Why nothing becomes of an ended command any more.
    fn ended(&self) -> Result<(), Refused> {
        self.end.map_or(Ok(()), |(state, _)| Err(Refused::Ended(state)))
    }
}

/// Does the same to both, and gives what each says to it.
fn apply(command: &mut Command, model: &mut Model, event: &Event, now: u64, most: u32) -> [Result<(), Refused>; 2] {
    match event {
        Event::Complete => {
            let expected =
                model.ended().and(if model.uploads { Ok(()) } else { Err(Refused::WrongState(model.state())) });
            model.uploads &= expected.is_err();
            [command.complete(body(now)), expected]
        }
        Event::Lease { seconds } => {
            let lease = Lease { id: format!("lease_{}", model.leases.len()), expires_at: now + seconds };
            let expected = model.ended().and(if model.held || model.uploads {
                Err(Refused::WrongState(model.state()))
            } else {
                Ok(())
            });
            if expected.is_ok() {
                model.leases.push((lease.id.clone(), lease.expires_at));
                model.held = true;
            }
            [command.lease(lease), expected]
        }
        Event::Renew { lease, seconds } => {
            let lease = model.name(*lease);
            let expected = if model.is_current(&lease) { Ok(()) } else { Err(Refused::StaleLease) };
            if let (Ok(()), Some(last)) = (expected, model.leases.last_mut()) {
                last.1 = now + seconds;
            }
            [command.renew(&lease, now + seconds), expected]
        }
        Event::TakeBack => {
            // The broker takes back what somebody has, and nothing else.
            if model.held {
                command.take_back(now, most, "reason");
                model.held = false;
                model.taken_back += 1;
                if model.taken_back == most {
                    model.end(State::Failed, now);
                }
            }
            [Ok(()), Ok(())]
        }
        Event::Respond { lease, success } => {
            let lease = lease.map(|back| model.name(back));
            let outcome = match (success, &lease) {
                (false, _) => error(now),
                (true, None) => Outcome::Success(now.to_string().into_bytes()),
                (true, Some(lease)) => Outcome::Stored { lease: lease.clone(), body: body(now) },
            };
            let expected = model.ended().and(match &lease {
                Some(lease) if !model.is_current(lease) => Err(Refused::StaleLease),
                None if !model.held => Err(Refused::WrongState(model.state())),
                _ => Ok(()),
            });
            if expected.is_ok() {
                model.end(if *success { State::Succeeded } else { State::Failed }, now);
            }
            [command.respond(lease.as_deref(), outcome, now), expected]
        }
        Event::Cancel | Event::Expire => {
            let expected = model.ended();
            let cancels = matches!(event, Event::Cancel);
            if expected.is_ok() {
                model.end(if cancels { State::Cancelled } else { State::Expired }, now);
            }
            [if cancels { command.cancel(now) } else { command.expire(now) }, expected]
        }
    }
}

fn body(now: u64) -> Stored {
    Stored { size: now, sha256: [now as u8; 32] }
}

fn error(now: u64) -> Outcome {
    Outcome::Error { code: "CODE".to_owned(), message: now.to_string(), details: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_command_its_rules_hold(
        events in prop::collection::vec(event(), 1..60),
        most in 1u32..6,
        deadline in prop::option::of(1u64..1000),
        uploads in any::<bool>(),
    ) {
        let mut command = command(deadline, uploads);
        let mut model = Model { uploads, ..Model::default() };
        for (index, event) in events.iter().enumerate() {
            let now = 10 * (index as u64 + 1);
            let before = command.clone();
            let [said, expected] = apply(&mut command, &mut model, event, now, most);
            prop_assert_eq!(said, expected, "{:?} to {:?}", event, before);

            // As the model has it.
            prop_assert_eq!(command.state, model.state());
            prop_assert_eq!(command.finished_at, model.end.map(|(_, at)| at));
            prop_assert_eq!(command.attempt, (model.taken_back + 1).min(most));

            // What holds whatever a model says.
            prop_assert!(said.is_ok() || command == before, "what is refused changes nothing");
            prop_assert!(!before.state.is_terminal() || command == before, "what has ended stays");
            prop_assert!(before.attempt <= command.attempt && command.attempt <= most);
            prop_assert_eq!(command.lease.is_some(), command.state == State::Dispatched, "a lease only while dispatched");
            prop_assert_eq!(command.outcome.is_some(), matches!(command.state, State::Succeeded | State::Failed));
            prop_assert_eq!(command.finished_at.is_some(), command.state.is_terminal());
            if let Some(Outcome::Error { code, message, .. }) = &command.outcome && code == "ATTEMPTS_EXHAUSTED" {
                prop_assert!(message.contains("reason") && model.taken_back == most);
            }

            // Nobody gets a command whose parameters are not there.
            let there = command.upload.is_none_or(|upload| upload.stored().is_some());
            prop_assert!(there || matches!(command.state, State::PendingUpload | State::Expired | State::Cancelled));

            // Exactly the current lease is one, and it is what the clock looks at.
            for back in 0..3 {
                prop_assert_eq!(command.is_leased_by(&model.name(back)), model.is_current(&model.name(back)));
            }
            let runs_out = model.leases.last().filter(|_| model.held).map(|(_, at)| *at);
            let upload = model.uploads.then_some(UPLOAD_TIME);
            let due = model.end.is_none().then(|| runs_out.into_iter().chain(deadline).chain(upload).min()).flatten();
            prop_assert_eq!(command.due(), due);
        }
    }

    /// Of two results for one command, in whatever order and under whatever lease, one counts.
    #[test]
    fn one_of_many_results_counts(leases in prop::collection::vec(prop::option::of(0usize..3), 2..12), again in 0u32..3) {
        let mut command = command(None, false);
        let mut model = Model::default();
        for _ in 0..=again {
            let _ = apply(&mut command, &mut model, &Event::TakeBack, 1, 10);
            apply(&mut command, &mut model, &Event::Lease { seconds: 60 }, 1, 10).iter().for_each(|said| assert!(said.is_ok()));
        }
        let mut counted = Vec::new();
        for (now, lease) in (10u64..).zip(leases) {
            if apply(&mut command, &mut model, &Event::Respond { lease, success: true }, now, 10)[0].is_ok() {
                counted.push(now);
            }
        }
        prop_assert!(counted.len() <= 1);
        let kept = match command.outcome {
            Some(Outcome::Success(bytes)) => Some(bytes),
            Some(Outcome::Stored { body, .. }) => Some(body.size.to_string().into_bytes()),
            _ => None,
        };
        prop_assert_eq!(kept, counted.first().map(|now| now.to_string().into_bytes()));
    }
}
