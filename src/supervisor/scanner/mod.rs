//! The scanner: keeps a supervisor beside every daemon that is wanted, and clears away those that are not.

mod kept;
mod watched;

use kept::Kept;
pub use watched::Watched;

use super::control::Server;
use super::handover::{self, adopt};
use super::lock;
use super::protocol::{Op, Reply, SCANNER};
use crate::sandbox::Failure;
use crate::sys::poll::PollSet;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{Context, file, memory, signal, socket, time};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Held by the scanner of a state directory.
pub const LOCK: &str = "scan.lock";
/// What scanner and supervisors have to say, should anyone ask.
pub const LOG: &str = "scanner.log";
/// A supervisor that ended this soon after its start is not started again at once.
const THROTTLE: Duration = Duration::from_secs(1);

/// SIGHUP is heard and means nothing: a session that ends (systemd.kill(5), `SendSIGHUP=`) hangs up all that was begun in it.
const SIGNALS: [i32; 3] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP];

struct Scanner {
    state_dir: PathBuf,
    server: Server,
    kept: Vec<Kept>,
    ending: bool,
    /// Whether it stays without daemons.
    stays: bool,
    /// Whether it was asked to become another program.
    renewal: bool,
}

/// Everything that a scanner knows and holds, for another program; descriptors by their numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    lock: RawFd,
    server: RawFd,
    ending: bool,
    stays: bool,
    kept: Vec<HandedKept>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HandedKept {
    dir: PathBuf,
    supervisor: Option<(Pid, RawFd, Duration)>,
    remover: Option<Pid>,
    not_before: Duration,
    told_to_end: bool,
}

/// Starts a scanner for `state_dir`, detached from this process; returns once it listens. Fine if one is there already.
pub fn start(state_dir: &Path) -> io::Result<()> {
    let (mut told, tell) = socket::pipe().map(|(r, w)| (File::from(r), File::from(w)))?;
    if let Fork::Parent(pid) = process::fork()? {
        drop(tell);
        let mut word = String::new();
        told.read_to_string(&mut word)?;
        process::wait(pid)?;
        return match word.as_str() {
            "" => Ok(()),
            why => Err(io::Error::other(why.to_owned())),
        };
    }
    unsafe { libc::setsid() };
    // The process between, gone at once, leaves the scanner without a parent that could wait for it or signal it.
    if !matches!(process::fork(), Ok(Fork::Child)) {
        process::exit_now(0);
    }
    drop(told);
    let result = detach(state_dir).and_then(|()| Scanner::new(state_dir));
    match result {
        Ok(None) => process::exit_now(0),
        Ok(Some((mut scanner, lock, signals))) => {
            drop(tell);
            scanner.keep(&signals, &lock);
            drop(lock);
            process::exit_now(0)
        }
        Err(error) => {
            let _ = write!(&tell, "{error}");
            process::exit_now(1)
        }
    }
}

/// Is the scanner of `state_dir` in this process and stays it, with or without daemons, until SIGTERM comes. While another
/// one is there it waits for that one's end, and passes SIGTERM on to it.
pub fn stay(state_dir: &Path) -> io::Result<()> {
    let path = state_dir.join(LOCK);
    detach(state_dir)?;
    // A terminal's signals are not for daemons.
    unsafe { libc::setsid() };
    let signals = signal::descriptor(&SIGNALS)?;
    let mut set = PollSet::default();
    loop {
        if let Some((mut scanner, lock, signals)) = Scanner::new(state_dir)? {
            scanner.stays = true;
            scanner.keep(&signals, &lock);
            return Ok(());
        }
        let Some((_, other)) = lock::holder_handle(&path) else { continue };
        let mut ending = false;
        loop {
            set.clear();
            let (told, ended) = (set.add(&signals), set.add(&other));
            set.wait(None)?;
            while set.ready(told)
                && let Some(signal) = signal::next(&signals)
            {
                if signal == libc::SIGTERM {
                    ending = true;
                    let _ = process::pidfd_kill(&other, libc::SIGTERM);
                    let _ = process::pidfd_kill(&other, libc::SIGCONT);
                }
            }
            if set.ready(ended) {
                break;
            }
        }
        if ending {
            return Ok(());
        }
    }
}

/// Goes on as the scanner of `state_dir` where another program in this process has left off; it wrote that to `descriptor`.
pub fn go_on(state_dir: &Path, descriptor: &str) -> io::Result<()> {
    let signals = signal::descriptor(&SIGNALS)?;
    let Work { lock, server, ending, stays, kept } = handover::take_over(descriptor)?;
    let lock = lock::Lock::adopted(adopt(lock)?);
    let kept = kept.into_iter().map(|kept| {
        let supervisor = match kept.supervisor {
            Some((pid, handle, started)) => Some((pid, adopt(handle)?, started)),
            None => None,
        };
        Ok(Kept {
            dir: kept.dir,
            supervisor,
            remover: kept.remover,
            not_before: kept.not_before,
            told_to_end: kept.told_to_end,
            is_current: false,
            due: true,
            key: None,
        })
    });
    let kept = kept.collect::<io::Result<_>>()?;
    let server = Server::adopted(adopt(server)?);
    Scanner { state_dir: state_dir.to_owned(), server, kept, ending, stays, renewal: false }.keep(&signals, &lock);
    Ok(())
}

/// Lets go of everything that belongs to whoever called: terminal, folder, environment, descriptors.
fn detach(state_dir: &Path) -> io::Result<()> {
    signal::reset_all();
    process::set_umask(0o077);
    std::env::set_current_dir("/")?;
    let log = state_dir.join(LOG);
    let too_long = fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 1024 * 1024);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let log = File::options()
        .create(true)
        .append(!too_long)
        .write(true)
        .truncate(too_long)
        .mode(0o600)
        .open(&log)
        .context(|| format!("open {}", log.display()))?;
    process::dup_to(&null, 0)?;
    process::dup_to(&null, 1)?;
    process::dup_to(&log, 2)?;
    // Orphans of a killed supervisor come to us, so that they are reaped on machines whose pid 1 does not.
    process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

impl Scanner {
    /// `None` where another scanner has this state directory.
    fn new(state_dir: &Path) -> io::Result<Option<(Self, lock::Lock, OwnedFd)>> {
        let Some(lock) = lock::take(&state_dir.join(LOCK))? else { return Ok(None) };
        // What a predecessor was killed over.
        file::sweep(state_dir, &["scanner.sock."], Duration::ZERO);
        let signals = signal::descriptor(&SIGNALS)?;
        let server = Server::new(state_dir, SCANNER)?;
        let scanner = Scanner {
            state_dir: state_dir.to_owned(),
            server,
            kept: Vec::new(),
            ending: false,
            stays: false,
            renewal: false,
        };
        Ok(Some((scanner, lock, signals)))
    }

    fn keep(&mut self, signals: &OwnedFd, lock: &lock::Lock) {
        if let Err(error) = self.run(signals, lock) {
            eprintln!("the scanner ends: {error}");
        }
    }

    fn run(&mut self, signals: &OwnedFd, lock: &lock::Lock) -> io::Result<()> {
        let mut set = PollSet::default();
        self.look();
        // What comes now is waiting, and needs little of what beginning took.
        memory::release_all();
        loop {
            if self.kept.is_empty() && (self.ending || !self.stays) {
                // Who deploys writes the folder first and calls then: one last look sees what came meanwhile, and a
                // call that finds nobody starts a new scanner.
                let _ = fs::remove_file(self.state_dir.join(SCANNER));
                self.look();
                if self.kept.is_empty() {
                    return Ok(());
                }
                self.server = Server::new(&self.state_dir, SCANNER)?;
            }
            set.clear();
            let signal_key = set.add(signals);
            for kept in &mut self.kept {
                kept.key = kept.supervisor.as_ref().map(|(_, handle, _)| set.add(handle));
            }
            let accept = self.server.add_to(&mut set);
            set.wait(self.next_timer())?;
            for kept in &mut self.kept {
                kept.due |= kept.key.is_some_and(|key| set.ready(key));
            }
            if set.ready(signal_key) {
                self.signalled(signals);
            }
            let requests = self.server.requests(&set, accept);
            self.renewal |= requests.iter().any(|(_, op)| *op == Op::Renew);
            // One look for all who ask: they may be a thousand.
            if self.server.was_hung_up() || requests.iter().any(|(_, op)| *op == Op::Scan) {
                self.look();
            } else {
                self.tend_due();
            }
            for (caller, op) in requests {
                let reply = match op {
                    Op::Scan | Op::Renew => Reply::Accepted,
                    _ => Reply::Refused(Failure::new("WRONG_SOCKET", "a scanner only scans")),
                };
                self.server.reply(caller, &reply, false);
            }
            if std::mem::take(&mut self.renewal)
                && let Err(error) = self.renew(lock)
            {
                eprintln!("the scanner stays the program that it is: {error}");
            }
        }
    }

    /// Becomes the program that the state directory wants, if that is another one. That then tells the supervisors.
    fn renew(&mut self, lock: &lock::Lock) -> io::Result<()> {
        let Some(program) = handover::newer(&self.state_dir)? else {
            self.kept.iter_mut().for_each(|kept| kept.is_current = false);
            self.tend_all();
            return Ok(());
        };
        let kept = self.kept.iter().map(|kept| HandedKept {
            dir: kept.dir.clone(),
            supervisor: kept.supervisor.as_ref().map(|(pid, handle, started)| (*pid, handle.as_raw_fd(), *started)),
            remover: kept.remover,
            not_before: kept.not_before,
            told_to_end: kept.told_to_end,
        });
        let (lock, server) = (lock.as_raw_fd(), self.server.as_raw_fd());
        let work = Work { lock, server, ending: self.ending, stays: self.stays, kept: kept.collect() };
        let handles = work.kept.iter().filter_map(|kept| kept.supervisor.map(|(_, handle, _)| handle));
        let open: Vec<RawFd> = handles.chain([lock, server]).collect();
        handover::hand_over(&program, &[Path::new("scan"), &self.state_dir], &work, &open).map(drop)
    }

    fn next_timer(&self) -> Option<Duration> {
        let now = time::monotonic();
        self.kept.iter().filter(|kept| kept.is_idle()).map(|kept| kept.not_before.saturating_sub(now)).min()
    }

    fn signalled(&mut self, signals: &OwnedFd) {
        while let Some(signal) = signal::next(signals) {
            if signal == libc::SIGTERM {
                self.ending = true;
                self.kept.iter_mut().for_each(|kept| kept.due = true);
            }
        }
        while let Some((pid, status)) = process::reap_any() {
            for kept in self.kept.iter_mut().filter(|kept| kept.remover == Some(pid)) {
                kept.remover = None;
                kept.due = true;
                if status != 0 {
                    kept.not_before = time::monotonic() + THROTTLE;
                }
            }
        }
    }

    /// Finds the daemons' folders, and does what each asks for.
    fn look(&mut self) {
        let known: HashSet<PathBuf> = self.kept.iter().map(|kept| kept.dir.clone()).collect();
        for name in entries(&self.state_dir.join("deployments")) {
            for dir in entries(&name.join("daemons")) {
                if !known.contains(&dir) {
                    self.kept.push(Kept {
                        dir,
                        supervisor: None,
                        remover: None,
                        not_before: Duration::ZERO,
                        told_to_end: false,
                        is_current: false,
                        due: true,
                        key: None,
                    });
                }
            }
        }
        self.tend_all();
    }

    fn tend_all(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.due = true);
        self.tend_due();
    }

    /// Does what is asked for by those folders that something has happened to.
    fn tend_due(&mut self) {
        let (state_dir, ending, now) = (self.state_dir.clone(), self.ending, time::monotonic());
        self.kept.retain_mut(|kept| {
            let is_due =
                std::mem::take(&mut kept.due) || !kept.is_current || (kept.is_idle() && now >= kept.not_before);
            !is_due || kept.tend(&state_dir, ending)
        });
    }
}

/// What is in a folder; nothing where there is none. Names that begin with a dot are somebody's half-made things.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| !hidden(path)).collect()
}
