//! Running another version: tried beside the one that runs, and taken back when it does not stay up.

use super::{Supervisor, Then, Version};
use crate::sandbox::{Failure, Namespaces, build};
use crate::supervisor::control::CallerId;
use crate::supervisor::protocol::{LastExit, RolledBack};
use crate::supervisor::spec::{self, Document, Spec};
use crate::sys::Context;
use std::fs;
use std::io;

/// An update whose sandbox is being built while the current version still runs.
pub struct Update {
    spec: Spec,
    pub build: build::Build,
    caller: CallerId,
}

impl Supervisor {
    /// `caller` asks for what `next.json` says.
    pub(super) fn asked_to_update(&mut self, caller: CallerId) {
        match self.begin_update() {
            Ok(Some((spec, build))) => self.update = Some(Update { spec, build, caller }),
            Ok(None) => self.accept(caller),
            Err(failure) => self.refuse(caller, failure),
        }
    }

    /// Checks the next version while the current one runs. Gives its sandbox, if that has to be built first.
    fn begin_update(&mut self) -> Result<Option<(Spec, build::Build)>, Failure> {
        if self.update.is_some() {
            return Err(Failure::new("UPDATE_IN_PROGRESS", "another update of this daemon has just begun"));
        }
        let next = spec::read::<Document>(&self.dir.join(spec::NEXT))?.run;
        let (old, new) = (&self.current.spec.sandbox, &next.sandbox);
        if let (true, Some(namespaces)) = (old == new, &self.current.namespaces) {
            build::check(namespaces, new, &next.program)?;
            let namespaces = self.current.namespaces.take();
            self.switch_to(next, namespaces)?;
            return Ok(None);
        }
        if old.top != new.top {
            return Ok(Some((next.clone(), build::start(new, &next.program)?)));
        }
        // The same writable top under other mounts: overlayfs allows one user of it at a time.
        self.switch_to(next, None)?;
        Ok(None)
    }

    /// The next version's sandbox is there, or cannot be had.
    pub(super) fn update_built(&mut self) {
        let Some(Update { spec: next, build, caller }) = self.update.take() else { return };
        match build.finish().and_then(|namespaces| Ok(self.switch_to(next, Some(namespaces))?)) {
            Ok(()) => self.accept(caller),
            Err(failure) => self.refuse(caller, failure),
        }
    }

    /// Makes `next` the current version, on trial where the one before had been up, and starts it.
    fn switch_to(&mut self, next: Spec, namespaces: Option<Namespaces>) -> io::Result<()> {
        let path = |name| self.dir.join(name);
        let _ = fs::remove_file(path(spec::PREVIOUS));
        fs::hard_link(path(spec::CURRENT), path(spec::PREVIOUS)).context(|| "keep the former spec".to_owned())?;
        fs::rename(path(spec::NEXT), path(spec::CURRENT)).context(|| "put the new spec in place".to_owned())?;
        let mut former = std::mem::replace(&mut self.current, Version { spec: next, namespaces });
        if former.spec.sandbox.top == self.current.spec.sandbox.top {
            former.namespaces = None;
        }
        let was_good = self.state.good_version.as_ref() == Some(&former.spec.version);
        self.former = was_good.then_some(former);
        self.rolled_back = None;
        self.failure = None;
        self.state.failures = 0;
        self.log.set_limits(self.current.spec.log);
        self.stop(Then::Start);
        Ok(())
    }

    /// The version on trial has ended: the one before it runs again.
    pub(super) fn go_back(&mut self, mut former: Version, exit: Option<LastExit>) {
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
