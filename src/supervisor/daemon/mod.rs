//! The supervisor: one daemon's life.
//!
//! A loop that waits for events and a small machine of states: [`Stage`] says what the supervisor is doing, and every
//! event is one function that moves it on. Nothing in the loop waits for anything but the loop itself.

mod end;
pub(super) mod handed;
pub(super) mod limited;
mod notify;
mod start;
mod status;
mod update;

use super::child::Child;
use super::control::{CallerId, Server};
use super::log::{Log, Output};
use super::protocol::{CONTROL, Op, Reply, RolledBack};
use super::spec::{self, Document, Spec};
use super::state::State;
use super::{handover, lock, notice, scanner};
use crate::sandbox::{Failure, Namespaces, build, copy};
use crate::sys::poll::PollSet;
use crate::sys::process::{self, Exit, Fork};
use crate::sys::{file, signal, time};
use limited::Limited;
use status::{last_exit, now};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;
use update::Update;

/// SIGHUP is heard and means nothing, as to the scanner.
const SIGNALS: [i32; 3] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP];

/// What the supervisor is doing.
enum Stage {
    /// The sandbox of the current version is being built.
    Building(build::Build),
    /// The program runs; `settled` once it counts as up.
    Up { since: Duration, settled: bool },
    /// It ended by itself and is started again then.
    Waiting { until: Duration },
    /// It was asked to end; killed then.
    Stopping { kill_at: Duration, killed: bool, then: Then },
    /// Everything is done; the process ends.
    Done,
}

/// What comes after a stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Start,
    Exit,
}

/// A version, and the sandbox where one was made for it.
struct Version {
    spec: Spec,
    namespaces: Option<Namespaces>,
}

struct Supervisor {
    dir: PathBuf,
    current: Version,
    /// The version to go back to while the current one is on trial.
    former: Option<Version>,
    limited: Limited,
    update: Option<Update>,
    stage: Stage,
    child: Option<Child>,
    /// The init of the current version, until the one before has ended.
    next: Option<Child>,
    state: State,
    failure: Option<Failure>,
    rolled_back: Option<RolledBack>,
    since: String,
    started_at: Option<String>,
    next_start_at: Option<String>,
    log: Log,
    notify: UnixDatagram,
    server: Server,
    /// Whether it was asked to become another program.
    renewal: bool,
}

/// Keeps the daemon in `dir` until it is not wanted any more or SIGTERM comes. `state_dir` is where the scanner is.
pub fn supervise(state_dir: &Path, dir: &Path) -> io::Result<()> {
    let Some(lock) = lock::take(&dir.join("lock"))? else { return Ok(()) };
    // What a predecessor was killed over.
    file::sweep(dir, &[".state.json.", ".cgroup.json.", "control.sock.", spec::KEPT], Duration::ZERO);
    let signals = signal::descriptor(&SIGNALS)?;
    let current = spec::read::<Document>(&dir.join(spec::CURRENT))?.run;
    let mut state = State::load(dir);
    let former = update::version_before(dir, &current, &state);
    if state.running {
        // Our predecessor ended without seeing its daemon end; the kernel then killed that.
        state.restarts += 1;
        state.last_exit = Some(last_exit(Exit::Signal(libc::SIGKILL)));
        current.ended.iter().for_each(|ended| notice::tell(ended, notice::UNSEEN));
    }
    let notify = notify::listen()?;
    let mut supervisor = Supervisor {
        log: Log::new(dir, current.log)?,
        stage: Stage::Waiting { until: Duration::ZERO },
        current: Version { spec: current, namespaces: None },
        former,
        limited: Limited::found(dir),
        update: None,
        child: None,
        next: None,
        state,
        failure: None,
        rolled_back: None,
        since: now(),
        started_at: None,
        next_start_at: None,
        notify,
        server: Server::new(dir, CONTROL)?,
        dir: dir.to_owned(),
        renewal: false,
    };
    supervisor.start();
    supervisor.keep(state_dir, &lock, &signals)
}

/// The same from where another program in this process has left off; it wrote that to `descriptor`.
pub fn go_on(state_dir: &Path, dir: &Path, descriptor: &str) -> io::Result<()> {
    let signals = signal::descriptor(&SIGNALS)?;
    let (mut supervisor, lock) = handover::take_over::<handed::Work>(descriptor)?.take_up(dir)?;
    supervisor.keep(state_dir, &lock, &signals)
}

impl Supervisor {
    fn keep(&mut self, state_dir: &Path, lock: &lock::Lock, signals: &OwnedFd) -> io::Result<()> {
        let mut scanner = scanner::Watched::new(state_dir);
        let mut set = PollSet::default();
        if matches!(self.stage, Stage::Up { settled: true, .. }) {
            crate::sys::memory::release_all();
        }
        while !matches!(self.stage, Stage::Done) {
            self.turn(&mut set, signals, &mut scanner)?;
            if self.renewal {
                self.renew(state_dir, lock);
            }
        }
        // Their inits are in the group.
        (self.update, self.next) = (None, None);
        self.limited.end(&self.dir);
        let _ = fs::remove_file(self.dir.join(CONTROL));
        Ok(())
    }

    /// Waits for the next events and takes them.
    fn turn(&mut self, set: &mut PollSet, signals: &OwnedFd, scanner: &mut scanner::Watched) -> io::Result<()> {
        set.clear();
        let signal_key = set.add(signals);
        let notify_key = set.add(&self.notify);
        let scanner_key = scanner.handle().map(|handle| set.add(handle));
        let child_keys = self.child.as_ref().map(|child| {
            let [stdout, stderr] = &child.outputs;
            [set.add(&child.socket), set.add(stdout), set.add(stderr)]
        });
        let building = match &self.stage {
            Stage::Building(build) => Some(set.add(build.socket())),
            _ => None,
        };
        let updating = self.update.as_ref().map(|update| set.add(update.socket()));
        let accept = self.server.add_to(set);
        set.wait(self.next_timer())?;

        if let Some([told, stdout, stderr]) = child_keys {
            // First what was printed: that the program has ended comes after that.
            self.take_output(set.ready(stdout), set.ready(stderr));
            if set.ready(told) {
                self.heard();
            }
        }
        if set.ready(notify_key) {
            self.notified();
        }
        if building.is_some_and(|key| set.ready(key)) {
            self.built();
        }
        if updating.is_some_and(|key| set.ready(key)) {
            self.update_goes_on();
        }
        if set.ready(signal_key) {
            self.signalled(signals);
        }
        for (caller, op) in self.server.requests(set, accept) {
            self.asked(caller, op);
        }
        if scanner_key.is_some_and(|key| set.ready(key)) {
            scanner.renew();
        }
        self.timers();
        Ok(())
    }

    /// Time until something is due; `None` where only an event can move things on.
    fn next_timer(&self) -> Option<Duration> {
        let due = match &self.stage {
            Stage::Up { since, settled: false } => *since + Duration::from_millis(self.current.spec.settle_ms),
            Stage::Waiting { until } => *until,
            Stage::Stopping { kill_at, killed: false, .. } => *kill_at,
            _ => return None,
        };
        Some(due.saturating_sub(time::monotonic()))
    }

    fn timers(&mut self) {
        if self.next_timer() != Some(Duration::ZERO) {
            return;
        }
        match &mut self.stage {
            Stage::Up { .. } => self.settle(),
            Stage::Waiting { .. } => self.start_again(),
            Stage::Stopping { killed, .. } => {
                *killed = true;
                if let Some(child) = &self.child {
                    child.kill();
                }
            }
            _ => {}
        }
    }

    /// The inside has said something, or has gone.
    fn heard(&mut self) {
        let Some(child) = &mut self.child else { return };
        let known = child.program;
        child.hear();
        self.failure = child.failure.take().or(self.failure.take());
        if child.exit.is_some() {
            let exit = self.take_exit();
            self.go_on_after(exit);
        } else if known.is_none() && child.program.is_some() {
            self.announce();
        }
    }

    fn take_output(&mut self, stdout: bool, stderr: bool) {
        let Some(child) = &self.child else { return };
        for (ready, output) in [(stdout, Output::Stdout), (stderr, Output::Stderr)] {
            if ready {
                self.log.take(output, &child.outputs[output as usize]);
            }
        }
    }

    fn signalled(&mut self, signals: &OwnedFd) {
        while let Some(signal) = signal::next(signals) {
            if signal == libc::SIGTERM {
                self.stop(Then::Exit);
            }
        }
        // One SIGCHLD may stand for several children.
        while let Some((pid, status)) = process::reap_any() {
            self.reaped(pid, Exit::from_wait_status(status));
        }
    }

    /// The program counts as up.
    fn settle(&mut self) {
        if let Stage::Up { settled, .. } = &mut self.stage {
            *settled = true;
        }
        self.former = None;
        self.state.good_version = Some(self.current.spec.version.clone());
        self.state.save(&self.dir);
        self.remove_old_tops();
        self.since = now();
        self.announce();
        // What comes now is waiting, possibly for months, and needs little of what starting took.
        crate::sys::memory::release_all();
    }

    /// Writable tops of other images than the current one. In a child: it may take long, and may need the rights of
    /// the sandbox's root over files of other ids.
    fn remove_old_tops(&self) {
        let keep = &self.current.spec.sandbox.top;
        let Ok(entries) = fs::read_dir(self.dir.join("tops")) else { return };
        let old: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path != keep).collect();
        if !old.is_empty() && matches!(process::fork(), Ok(Fork::Child)) {
            if let Some(namespaces) = &self.current.namespaces {
                let _ = namespaces.enter_user();
            }
            for path in old {
                if let Err(error) = copy::tree(&path) {
                    eprintln!("{error}");
                }
            }
            process::exit_now(0)
        }
    }

    /// Ends the daemon: its stop signal, the grace period, then the pid namespace is killed.
    fn stop(&mut self, then: Then) {
        if let Stage::Stopping { then: planned, .. } = &mut self.stage {
            if then == Then::Exit {
                *planned = then;
            }
            return;
        }
        match (&self.child, then) {
            (Some(child), _) if child.running => {
                child.signal(self.current.spec.stop_signal);
                let kill_at = time::monotonic() + Duration::from_millis(self.current.spec.stop_grace_ms);
                self.move_to(Stage::Stopping { kill_at, killed: false, then });
            }
            (Some(child), Then::Exit) => {
                child.kill();
                self.move_to(Stage::Stopping { kill_at: time::monotonic(), killed: true, then });
            }
            (_, Then::Start) => {
                // With it goes a sandbox that is being built for what may not be wanted any more.
                self.stage = Stage::Done;
                self.start();
            }
            (None, Then::Exit) => self.move_to(Stage::Done),
        }
    }

    fn asked(&mut self, caller: CallerId, op: Op) {
        match op {
            Op::Status => self.server.reply(caller, &self.status(), false),
            Op::Watch => self.server.reply(caller, &self.status(), true),
            Op::Restart => {
                self.state.failures = 0;
                self.failure = None;
                // What is being built is being started.
                if !matches!(self.stage, Stage::Building(_)) {
                    self.stop(Then::Start);
                }
                self.accept(caller);
            }
            Op::Update(request) => self.asked_to_update(caller, request),
            Op::Renew => {
                self.renewal = true;
                self.server.reply(caller, &Reply::Accepted, false);
            }
            Op::Scan => self.refuse(caller, Failure::new("WRONG_SOCKET", "a supervisor does not scan")),
        }
    }

    fn accept(&mut self, caller: CallerId) {
        self.server.reply(caller, &Reply::Accepted, true);
        let status = self.status();
        self.server.reply(caller, &status, true);
    }

    fn refuse(&mut self, caller: CallerId, failure: Failure) {
        self.server.reply(caller, &Reply::Refused(failure), false);
    }

    fn move_to(&mut self, stage: Stage) {
        self.stage = stage;
        self.since = now();
        self.announce();
    }

    fn announce(&mut self) {
        let status = self.status();
        self.server.announce(|| status);
    }
}
