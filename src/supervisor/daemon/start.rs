//! Starting the current version: its sandbox, an init in that, the program in the init; each only where it is not there yet.

use super::status::now;
use super::{Stage, Supervisor, Then};
use crate::sandbox::{Failure, Namespaces, build};
use crate::supervisor::child::{self, Child};
use crate::supervisor::spec::Spec;
use crate::sys::time;
use std::io;
use std::time::Duration;

impl Supervisor {
    /// A start that nobody asked for.
    pub(super) fn start_again(&mut self) {
        self.state.restarts += 1;
        self.start();
    }

    /// Starts the current version: in the init that there is, if that is its own, else in a new one once the old has gone.
    /// Where there is no sandbox yet, it is built first.
    pub(super) fn start(&mut self) {
        self.next_start_at = None;
        let version = &self.current.spec.version;
        if let Some(next) = self.next.take_if(|next| next.version == *version)
            && let Some(former) = self.child.replace(next)
        {
            former.leave();
        }
        match &self.child {
            Some(child) if child.version == *version => self.run(),
            Some(child) => {
                child.kill();
                self.move_to(Stage::Stopping { kill_at: time::monotonic(), killed: true, then: Then::Start });
            }
            None => self.launch(),
        }
    }

    /// Makes an init for the current version, and starts the program in it.
    pub(super) fn launch(&mut self) {
        let Some(namespaces) = &self.current.namespaces else {
            match build::start(&self.current.spec.sandbox, &self.current.spec.program) {
                Ok(build) => self.move_to(Stage::Building(build)),
                Err(error) => self.not_started(error.into()),
            }
            return;
        };
        self.limited.by(&self.current.spec.limits, &self.dir);
        match self.init_of(&self.current.spec, namespaces) {
            Ok(child) => {
                self.child = Some(child);
                self.run();
            }
            Err(error) => self.not_started(error.into()),
        }
    }

    /// An init for the program of `spec`, in the control group that there is.
    pub(super) fn init_of(&self, spec: &Spec, namespaces: &Namespaces) -> io::Result<Child> {
        let mut program = spec.program.clone();
        program.env.extend(self.notify_variable());
        child::launch(namespaces, spec, &program, self.limited.group())
    }

    /// Starts the program in the init that there is.
    pub(super) fn run(&mut self) {
        let Some(child) = &mut self.child else { return };
        self.limited.begin_run();
        child.start();
        self.failure = None;
        self.started_at = Some(now());
        self.move_to(Stage::Up { since: time::monotonic(), settled: false });
        self.state.running = true;
        self.state.save(&self.dir);
    }

    /// The sandbox of the current version is there, or cannot be had.
    pub(super) fn built(&mut self) {
        let Stage::Building(build) = std::mem::replace(&mut self.stage, Stage::Done) else { return };
        match build.finish() {
            Ok(namespaces) => {
                self.current.namespaces = Some(namespaces);
                self.launch();
            }
            Err(failure) => self.not_started(failure),
        }
    }

    /// A start that did not reach the program counts as a short run.
    fn not_started(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.wait_or_go_back(None, Duration::ZERO);
    }
}
