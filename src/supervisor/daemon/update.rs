//! Running another version: made ready and tried beside the one that runs, and taken back when it does not stay up.

use super::{Supervisor, Then, Version};
use crate::sandbox::{Failure, Namespaces, build};
use crate::supervisor::child::Child;
use crate::supervisor::control::CallerId;
use crate::supervisor::protocol::{ExitStatus, RolledBack};
use crate::supervisor::spec::{self, Document, Spec};
use crate::supervisor::state::State;
use crate::sys::Context;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A version that somebody has asked for.
struct Wanted {
    spec: Spec,
    /// The number of their request.
    request: u64,
    caller: CallerId,
}

/// An update that is made ready while the current version still runs.
pub struct Update {
    wanted: Wanted,
    step: Step,
}

enum Step {
    /// Its sandbox is being built.
    Building(build::Build),
    /// Its init is being made, in that sandbox or in the one there is. What then is left to do when the current version has
    /// ended is to start a program.
    Standing(Option<Namespaces>, Child),
}

impl Update {
    /// What says that it can go on.
    pub fn socket(&self) -> &OwnedFd {
        match &self.step {
            Step::Building(build) => build.socket(),
            Step::Standing(_, child) => &child.socket,
        }
    }

    /// Its init.
    pub fn child(&mut self) -> Option<&mut Child> {
        match &mut self.step {
            Step::Building(_) => None,
            Step::Standing(_, child) => Some(child),
        }
    }
}

/// The version that `current`, which has not been up yet, is to give way to if it does not stay up: the last that was up.
pub fn version_before(dir: &Path, current: &Spec, state: &State) -> Option<Version> {
    let good = state.good_version.as_ref().filter(|good| **good != current.version)?;
    let spec = spec::read::<Document>(&dir.join(spec::PREVIOUS)).ok()?.run;
    (spec.version == *good).then_some(Version { spec, namespaces: None })
}

impl Supervisor {
    /// `caller` asks for the version in this request's file.
    pub(super) fn asked_to_update(&mut self, caller: CallerId, request: u64) {
        let begun = match spec::read::<Document>(&self.dir.join(spec::next(request))) {
            Ok(document) => self.begin_update(Wanted { spec: document.run, request, caller }),
            Err(error) => Err(not_there(error)),
        };
        self.answer_update(caller, begun);
    }

    /// The next step of an update is done, or cannot be.
    pub(super) fn update_goes_on(&mut self) {
        let Some(Update { wanted, step }) = self.update.take() else { return };
        let caller = wanted.caller;
        let gone_on = match step {
            Step::Building(build) => build.finish().and_then(|namespaces| self.stand_by(wanted, Some(namespaces))),
            Step::Standing(namespaces, mut child) => {
                child.hear();
                match child.failure.take() {
                    Some(failure) => Err(failure),
                    None if child.ready => self.switch_to(wanted, namespaces, Some(child)),
                    None if child.reaped => {
                        Err(Failure::new("SANDBOX_FAILED", "the init of the new version ended early")
                            .hint("it may have been killed for want of memory; see the kernel's log"))
                    }
                    None => {
                        self.update = Some(Update { wanted, step: Step::Standing(namespaces, child) });
                        Ok(())
                    }
                }
            }
        };
        self.answer_update(caller, gone_on);
    }

    fn answer_update(&mut self, caller: CallerId, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) if self.update.is_some() => {}
            Ok(()) => self.accept(caller),
            Err(failure) => self.refuse(caller, failure),
        }
    }

    /// Checks the next version while the current one runs, and begins to make it ready; runs it where nothing can be made
    /// ready ahead. One that is being made ready is not wanted any more: only who holds the deployment's lock asks.
    fn begin_update(&mut self, wanted: Wanted) -> Result<(), Failure> {
        if let Some(Update { wanted: Wanted { caller, .. }, .. }) = self.update.take() {
            self.refuse(caller, Failure::new("UPDATE_WITHDRAWN", "another update of this daemon has begun meanwhile"));
        }
        let (old, new) = (&self.current.spec.sandbox, &wanted.spec.sandbox);
        if let (true, Some(namespaces)) = (old == new, &self.current.namespaces) {
            build::check(namespaces, new, &wanted.spec.program)?;
            return self.stand_by(wanted, None);
        }
        if old.top == new.top {
            // The same writable top under other mounts: overlayfs allows one user of it at a time.
            return self.switch_to(wanted, None, None);
        }
        if let Some(former) = self.former.as_mut().filter(|former| former.spec.sandbox.top == new.top) {
            // The version to go back to gives its sandbox, or gives it up.
            let Some(namespaces) = former.namespaces.take().filter(|_| former.spec.sandbox == *new) else {
                return self.switch_to(wanted, None, None);
            };
            build::check(&namespaces, new, &wanted.spec.program)?;
            return self.stand_by(wanted, Some(namespaces));
        }
        let step = Step::Building(build::start(new, &wanted.spec.program)?);
        self.update = Some(Update { wanted, step });
        Ok(())
    }

    /// Begins to make the init of the next version, in its own namespaces or in the current ones.
    fn stand_by(&mut self, wanted: Wanted, own: Option<Namespaces>) -> Result<(), Failure> {
        // Other limits are for the next program, not for the one that still runs in the group.
        let limits_stay = wanted.spec.limits == self.current.spec.limits;
        let stand_by = limits_stay && self.child.as_ref().is_some_and(|child| child.running);
        match own.as_ref().or(self.current.namespaces.as_ref()) {
            Some(namespaces) if stand_by => {
                let child = self.init_of(&wanted.spec, namespaces)?;
                // It may have been quicker to say so than the process that made it to say who it is.
                if child.ready {
                    return self.switch_to(wanted, own, Some(child));
                }
                self.update = Some(Update { wanted, step: Step::Standing(own, child) });
                Ok(())
            }
            _ => self.switch_to(wanted, own, None),
        }
    }

    /// Makes another version the current one, on trial where one has been up before it, and starts it: in `init`, where it
    /// has one already. Without namespaces of its own it goes on in the current ones, if they are what it wants.
    fn switch_to(&mut self, wanted: Wanted, own: Option<Namespaces>, init: Option<Child>) -> Result<(), Failure> {
        let was_good = self.state.good_version.as_ref() == Some(&self.current.spec.version);
        // One that is itself still on trial is nothing to go back to: the one before it still is.
        let gives_way = was_good || self.former.is_none();
        self.take_up(wanted.request, gives_way)?;
        let next = wanted.spec;
        let stays = self.current.spec.sandbox == next.sandbox;
        let namespaces = own.or_else(|| self.current.namespaces.take_if(|_| stays));
        let replaced = std::mem::replace(&mut self.current, Version { spec: next, namespaces });
        let former = if was_good { Some(replaced) } else { self.former.take() };
        self.former = former.filter(|former| former.spec.version != self.current.spec.version);
        if let Some(former) = &mut self.former
            && former.spec.sandbox.top == self.current.spec.sandbox.top
        {
            former.namespaces = None;
        }
        self.next = init;
        self.rolled_back = None;
        self.failure = None;
        self.state.failures = 0;
        self.log.set_limits(self.current.spec.log);
        self.stop(Then::Start);
        Ok(())
    }

    /// Puts the requested spec in the place of the current one, which becomes the previous one where `gives_way` is so.
    /// Nothing is changed where the request was withdrawn.
    fn take_up(&self, request: u64, gives_way: bool) -> Result<(), Failure> {
        let [next, current, previous, kept] =
            [&spec::next(request), spec::CURRENT, spec::PREVIOUS, spec::KEPT].map(|name| self.dir.join(name));
        if gives_way {
            let _ = fs::rename(&previous, &kept);
            fs::hard_link(&current, &previous).context(|| "keep the former spec".to_owned())?;
        }
        let taken = fs::rename(&next, &current);
        if gives_way {
            let _ = if taken.is_ok() { fs::remove_file(&kept) } else { fs::rename(&kept, &previous) };
        }
        taken.map_err(not_there)
    }

    /// The version on trial has ended: the one before it runs again.
    pub(super) fn go_back(&mut self, mut former: Version, exit: Option<ExitStatus>) {
        if former.spec.sandbox == self.current.spec.sandbox {
            former.namespaces = self.current.namespaces.take();
        }
        let failure = self.failure.take();
        let exit = exit.filter(|_| failure.is_none());
        self.rolled_back = Some(RolledBack { version: self.current.spec.version.clone(), exit, failure });
        if let Err(error) = fs::rename(self.dir.join(spec::PREVIOUS), self.dir.join(spec::CURRENT)) {
            eprintln!("{}: cannot put the former spec back: {error}", self.dir.display());
        }
        self.current = former;
        self.log.set_limits(self.current.spec.log);
        self.state.save(&self.dir);
        self.start();
    }
}

/// Why a request's file cannot be taken up.
fn not_there(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new("UPDATE_WITHDRAWN", "the update was withdrawn before it was taken up"),
        _ => error.into(),
    }
}
