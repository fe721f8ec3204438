//! The supervisor: one daemon's life.
//!
//! A loop that waits for events and a small machine of states: [`Stage`] says what the supervisor is doing, and every
//! event is one function that moves it on. Nothing in the loop waits for anything but the loop itself.

pub(super) mod handed;
pub(super) mod limited;
mod notify;
mod status;
mod update;

use super::child::{self, Child};
use super::control::{CallerId, Server};
use super::log::{Log, Output};
use super::protocol::{CONTROL, LastExit, Op, Reply, RolledBack};
use super::spec::{self, Document, Spec};
use super::state::State;
use super::{backoff, handover, lock, notice, scanner};
use crate::sandbox::{Failure, Namespaces, build, copy};
use crate::sys::poll::PollSet;
use crate::sys::process::{self, Exit, Fork, Pid};
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
    file::sweep(dir, &[".state.json.", ".cgroup.json.", "control.sock."], Duration::ZERO);
    let signals = signal::descriptor(&SIGNALS)?;
    let current = spec::read::<Document>(&dir.join(spec::CURRENT))?.run;
    let mut state = State::load(dir);
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
        former: None,
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

    /// A start that nobody asked for.
    fn start_again(&mut self) {
        self.state.restarts += 1;
        self.start();
    }

    /// Starts the current version: in the init that there is, if that is its own, else in a new one once the old has gone.
    /// Where there is no sandbox yet, it is built first.
    fn start(&mut self) {
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
    fn launch(&mut self) {
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
    fn init_of(&self, spec: &Spec, namespaces: &Namespaces) -> io::Result<Child> {
        let mut program = spec.program.clone();
        program.env.extend(self.notify_variable());
        child::launch(namespaces, spec, &program, self.limited.group())
    }

    /// Starts the program in the init that there is.
    fn run(&mut self) {
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
    fn built(&mut self) {
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

    /// A child of ours has ended. With an init goes everything in its pid namespace.
    fn reaped(&mut self, pid: Pid, status: Exit) {
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
    fn take_exit(&mut self) -> Option<Exit> {
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
    fn go_on_after(&mut self, exit: Option<Exit>) {
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
    fn wait_or_go_back(&mut self, exit: Option<Exit>, lived: Duration) {
        let exit = exit.map(|exit| LastExit { oom: self.limited.was_exceeded(), ..last_exit(exit) });
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
            Op::Update => self.asked_to_update(caller),
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
        let _ = fs::remove_file(self.dir.join(spec::NEXT));
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
