//! What becomes of a daemon whose program has ended.

use super::status::last_exit;
use super::update::Update;
use super::{Stage, Supervisor, Then};
use crate::supervisor::log::Output;
use crate::supervisor::protocol::ExitStatus;
use crate::supervisor::{backoff, notice};
use crate::sys::process::{Exit, Pid};
use crate::sys::time;
use std::time::Duration;

impl Supervisor {
    /// A child of ours has ended. With an init goes everything in its pid namespace.
    pub(super) fn reaped(&mut self, pid: Pid, status: Exit) {
        for child in [self.next.as_mut(), self.update.as_mut().and_then(Update::child), self.child.as_mut()] {
            if let Some(child) = child.filter(|child| child.init == pid) {
                child.reaped = true;
            }
        }
        self.next.take_if(|next| next.reaped);
        let Some(child) = self.child.as_mut().filter(|child| child.reaped) else { return };
        child.hear();
        if child.running && child.exit.is_none() {
            child.exit = Some(status);
        }
        let exit = self.take_exit();
        self.child = None;
        self.go_on_after(exit);
    }

    /// How the program has ended, and with it everything in its pid namespace but the init: once, and only if it has.
    pub(super) fn take_exit(&mut self) -> Option<Exit> {
        self.child.as_ref()?.exit?;
        // What it said before it ended may have come after the events of this turn were counted: a program that says
        // READY and ends at once was up.
        self.notified();
        let child = self.child.as_mut()?;
        let exit = child.take_exit();
        self.failure = child.failure.take().or(self.failure.take());
        for output in [Output::Stdout, Output::Stderr] {
            while crate::sys::poll::is_ready(&child.outputs[output as usize])
                && self.log.take(output, &child.outputs[output as usize])
            {}
        }
        self.log.end();
        self.state.running = false;
        self.started_at = None;
        if let Some(notice) = &self.current.spec.ended {
            notice::tell(notice, Duration::ZERO);
        }
        exit
    }

    /// What comes after the end of a program, or of an init without one.
    pub(super) fn go_on_after(&mut self, exit: Option<Exit>) {
        match (&self.stage, exit, &self.child) {
            (Stage::Stopping { then: Then::Start, .. }, ..) => self.start(),
            (Stage::Stopping { then: Then::Exit, .. }, _, Some(child)) => child.kill(),
            (Stage::Stopping { then: Then::Exit, .. }, _, None) => {
                self.state.save(&self.dir);
                self.move_to(Stage::Done);
            }
            (Stage::Up { since, .. }, Some(exit), _) => {
                let lived = time::monotonic().saturating_sub(*since);
                self.wait_or_go_back(Some(exit), lived);
            }
            _ => {}
        }
    }

    /// A run has ended that should not have: try again later, or go back to the version before.
    pub(super) fn wait_or_go_back(&mut self, exit: Option<Exit>, lived: Duration) {
        let exit = exit.map(|exit| ExitStatus { oom: self.limited.was_exceeded(), ..last_exit(exit) });
        if exit.is_some() && self.failure.is_none() {
            self.state.last_exit.clone_from(&exit);
        }
        if let Some(former) = self.former.take() {
            return self.go_back(former, exit);
        }
        self.state.failures = backoff::failures(self.state.failures, lived);
        let wait = backoff::delay(self.state.failures, time::wall().subsec_micros());
        if wait.is_zero() {
            return self.start_again();
        }
        self.state.save(&self.dir);
        self.next_start_at = Some(time::rfc3339(time::wall() + wait));
        self.move_to(Stage::Waiting { until: time::monotonic() + wait });
    }
}
