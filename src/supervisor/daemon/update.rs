//! Running another version: made ready and tried beside the one that runs, and taken back when it does not stay up.

use super::{Supervisor, Then, Version};
use crate::sandbox::{Failure, Namespaces, build};
use crate::supervisor::child::Child;
use crate::supervisor::control::CallerId;
use crate::supervisor::protocol::{ExitStatus, RolledBack};
use crate::supervisor::spec::{self, Document, Spec};
use crate::sys::Context;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// An update that is made ready while the current version still runs.
pub struct Update {
    spec: Spec,
    caller: CallerId,
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

impl Supervisor {
    /// `caller` asks for what `next.json` says.
    pub(super) fn asked_to_update(&mut self, caller: CallerId) {
        let begun = self.begin_update(caller);
        self.answer_update(caller, begun);
    }

    /// The next step of an update is done, or cannot be.
    pub(super) fn update_goes_on(&mut self) {
        let Some(Update { spec, caller, step }) = self.update.take() else { return };
        let gone_on = match step {
            Step::Building(build) => {
                build.finish().and_then(|namespaces| self.stand_by(spec, caller, Some(namespaces)))
            }
            Step::Standing(namespaces, mut child) => {
                child.hear();
                match child.failure.take() {
                    Some(failure) => Err(failure),
                    None if child.ready => self.switch_to(spec, namespaces, Some(child)).map_err(Failure::from),
                    None if child.reaped => {
                        Err(Failure::new("SANDBOX_FAILED", "the init of the new version ended early")
                            .hint("it may have been killed for want of memory; see the kernel's log"))
                    }
                    None => {
                        self.update = Some(Update { spec, caller, step: Step::Standing(namespaces, child) });
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
    /// ready ahead.
    fn begin_update(&mut self, caller: CallerId) -> Result<(), Failure> {
        if self.update.is_some() {
            return Err(Failure::new("UPDATE_IN_PROGRESS", "another update of this daemon has just begun"));
        }
        let next = spec::read::<Document>(&self.dir.join(spec::NEXT))?.run;
        let (old, new) = (&self.current.spec.sandbox, &next.sandbox);
        if let (true, Some(namespaces)) = (old == new, &self.current.namespaces) {
            build::check(namespaces, new, &next.program)?;
            return self.stand_by(next, caller, None);
        }
        if old.top == new.top {
            // The same writable top under other mounts: overlayfs allows one user of it at a time.
            return Ok(self.switch_to(next, None, None)?);
        }
        let step = Step::Building(build::start(new, &next.program)?);
        self.update = Some(Update { spec: next, caller, step });
        Ok(())
    }

    /// Begins to make the init of the next version, in its own namespaces or in the current ones.
    fn stand_by(&mut self, spec: Spec, caller: CallerId, own: Option<Namespaces>) -> Result<(), Failure> {
        // Other limits are for the next program, not for the one that still runs in the group.
        let limits_stay = spec.limits == self.current.spec.limits;
        let stand_by = limits_stay && self.child.as_ref().is_some_and(|child| child.running);
        match own.as_ref().or(self.current.namespaces.as_ref()) {
            Some(namespaces) if stand_by => {
                let child = self.init_of(&spec, namespaces)?;
                // It may have been quicker to say so than the process that made it to say who it is.
                if child.ready {
                    return Ok(self.switch_to(spec, own, Some(child))?);
                }
                self.update = Some(Update { spec, caller, step: Step::Standing(own, child) });
                Ok(())
            }
            _ => Ok(self.switch_to(spec, own, None)?),
        }
    }

    /// Makes `next` the current version, on trial where the one before had been up, and starts it: in `init`, where it has
    /// one already. Without namespaces of its own it goes on in the current ones, if they are what it wants.
    fn switch_to(&mut self, next: Spec, own: Option<Namespaces>, init: Option<Child>) -> io::Result<()> {
        let path = |name| self.dir.join(name);
        let _ = fs::remove_file(path(spec::PREVIOUS));
        fs::hard_link(path(spec::CURRENT), path(spec::PREVIOUS)).context(|| "keep the former spec".to_owned())?;
        fs::rename(path(spec::NEXT), path(spec::CURRENT)).context(|| "put the new spec in place".to_owned())?;
        let stays = self.current.spec.sandbox == next.sandbox;
        let namespaces = own.or_else(|| self.current.namespaces.take_if(|_| stays));
        let mut former = std::mem::replace(&mut self.current, Version { spec: next, namespaces });
        if former.spec.sandbox.top == self.current.spec.sandbox.top {
            former.namespaces = None;
        }
        let was_good = self.state.good_version.as_ref() == Some(&former.spec.version);
        self.former = was_good.then_some(former);
        self.next = init;
        self.rolled_back = None;
        self.failure = None;
        self.state.failures = 0;
        self.log.set_limits(self.current.spec.log);
        self.stop(Then::Start);
        Ok(())
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
