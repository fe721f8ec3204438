//! `alien doctor`: looks at the machine and at the tree of a state directory, and mends what needs nobody's decision.

use super::control::{self, UNRESPONSIVE};
use super::deployment::entry_names;
use super::helper::Helper;
use super::layout::Layout;
use super::{limits, observe, reboot, startup};
use crate::engine::doctor::Checkup;
use crate::engine::status::{ResourceStatus, State};
use crate::error::{Issue, Report};
use crate::preflight::{Check, Status};
use crate::sandbox::ids::Ids;
use crate::supervisor::protocol::{CONTROL, Op, SCANNER};
use crate::supervisor::spec;
use crate::sys::{file, process};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Less than this is not enough for the next image, or for logs.
const LEAST_SPACE: u64 = 512 * 1024 * 1024;
/// How long what was mended may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(5);

/// A visit to one state directory.
pub struct Doctor<'a> {
    pub layout: &'a Layout,
    pub ids: &'a Ids,
    /// Only says what it would do.
    pub dry_run: bool,
    mended: Vec<String>,
}

impl<'a> Doctor<'a> {
    pub fn new(layout: &'a Layout, ids: &'a Ids, dry_run: bool) -> Self {
        Doctor { layout, ids, dry_run, mended: Vec::new() }
    }

    /// Everything, in the order in which one thing depends on another. `machine` is the helper where this machine can make
    /// sandboxes, with whether layers can be mounted.
    pub async fn visit(mut self, machine: Result<(&Helper, bool), Report>) -> Checkup {
        let mut checks = vec![self.state_directory()];
        let (sandbox, helper) = match machine {
            Ok((helper, overlay)) => (sandbox(overlay), Some(helper)),
            Err(report) => (failed("sandbox", SANDBOX, reported(report)), None),
        };
        checks.extend([sandbox, self.users(), limited(self.layout)]);
        self.sweep();
        let wanted = self.wanted();
        if let Some(helper) = helper {
            checks.push(self.scanner(helper, &wanted).await);
            checks.extend(self.daemons(helper, &wanted).await);
            checks.push(self.reboot(helper, &wanted).await);
        }
        Checkup::new(checks, self.mended)
    }

    /// Says what is mended; whether it is to be done.
    fn mend(&mut self, what: String) -> bool {
        self.mended.push(what);
        !self.dry_run
    }

    fn state_directory(&mut self) -> Check {
        let description = "The state directory is its owner's alone, and has room";
        let check = |status, issues| Check { id: "state-directory", description: description.into(), status, issues };
        let root = self.layout.root().to_owned();
        let shown = root.display();
        let mode = match fs::metadata(&root) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(error) => return check(Status::Failed, vec![issue(format!("{shown} cannot be used: {error}"), None)]),
        };
        if mode & 0o077 != 0
            && self.mend(format!("{shown} was open to other users (mode {mode:o})"))
            && let Err(error) = fs::set_permissions(&root, Permissions::from_mode(0o700))
        {
            return check(Status::Failed, vec![issue(format!("{shown} cannot be closed to others: {error}"), None)]);
        }
        match file::free_space(&root) {
            Ok(free) if free < LEAST_SPACE => {
                let message = format!("only {} MiB are free where {shown} is", free / 1024 / 1024);
                check(Status::Warning, vec![issue(message, Some("`alien prune` removes images that nobody uses"))])
            }
            _ => check(Status::Passed, Vec::new()),
        }
    }

    fn users(&self) -> Check {
        let description = "Images may run as any user";
        let (status, issues) = match self.ids {
            Ids::Single { .. } => {
                let message =
                    "this account has no subordinate ids (subuid(5)): images run as root inside, and no other user";
                let hint = "install uidmap and give the account ids, or deploy as root";
                (Status::Warning, vec![issue(message.to_owned(), Some(hint))])
            }
            _ => (Status::Passed, Vec::new()),
        };
        Check { id: "users", description: description.into(), status, issues }
    }

    /// Removes what killed deploys left half-made, where no other deploy is under way.
    fn sweep(&mut self) {
        let deployments = self.layout.root().join("deployments");
        for name in entry_names(&deployments) {
            let Some(_lock) = locked(&self.layout.deployment(&name)) else { continue };
            for dir in hidden(&self.layout.daemons(&name)) {
                self.remove(&dir);
            }
        }
        for dir in hidden(&deployments) {
            if let Some(_lock) = locked(&dir) {
                self.remove(&dir);
            }
        }
        for dir in hidden(self.layout.root()) {
            let owner = dir.to_string_lossy().rsplit_once(".probe-").and_then(|(_, pid)| pid.parse().ok());
            if owner.is_some_and(|pid: process::Pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                self.remove(&dir);
            }
        }
    }

    fn remove(&mut self, dir: &Path) {
        if self.mend(format!("{} was left by a call that was killed", dir.display())) {
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// The folders of daemons that are to be kept alive.
    fn wanted(&self) -> Vec<(String, PathBuf)> {
        let deployments = entry_names(&self.layout.root().join("deployments")).into_iter();
        let daemons = deployments.flat_map(|name| {
            let ids = entry_names(&self.layout.daemons(&name)).into_iter();
            ids.map(move |id| (name.clone(), id)).collect::<Vec<_>>()
        });
        let folder = |(name, id): (String, String)| (format!("{name}/{id}"), self.layout.daemon(&name, &id));
        daemons.map(folder).filter(|(_, dir)| !dir.join(spec::REMOVED).exists()).collect()
    }

    async fn scanner(&mut self, helper: &Helper, wanted: &[(String, PathBuf)]) -> Check {
        let check = |status, issues| Check {
            id: "scanner",
            description: "The scanner keeps every supervisor".into(),
            status,
            issues,
        };
        if wanted.is_empty() {
            return check(Status::Skipped, Vec::new());
        }
        let Err(error) = control::call(self.layout.root(), SCANNER, Op::Scan).await else {
            return check(Status::Passed, Vec::new());
        };
        if !self.mend(format!("no scanner kept this state directory: {}", error.message)) {
            return check(Status::Failed, vec![issue(error.message, None)]);
        }
        match helper.scan().await {
            Ok(()) => check(Status::Passed, Vec::new()),
            Err(error) => check(Status::Failed, vec![reported(error)]),
        }
    }

    /// Whether each daemon is kept, and up.
    async fn daemons(&mut self, helper: &Helper, wanted: &[(String, PathBuf)]) -> Vec<Check> {
        let (mut kept, mut up) = (Vec::new(), Vec::new());
        for (name, dir) in wanted {
            if let Err(issue) = self.supervisor(helper, name, dir).await {
                kept.push(issue);
                continue;
            }
            up.extend(complaint(name, &observe::one(dir).await));
        }
        let status = |issues: &Vec<Issue>, bad| match (wanted.is_empty(), issues.is_empty()) {
            (true, _) => Status::Skipped,
            (_, true) => Status::Passed,
            _ => bad,
        };
        let (keeps, ups) = (status(&kept, Status::Failed), status(&up, Status::Warning));
        vec![
            Check {
                id: "supervisors",
                description: "Every daemon has a supervisor that answers".into(),
                status: keeps,
                issues: kept,
            },
            Check { id: "daemons", description: "Every daemon is up".into(), status: ups, issues: up },
        ]
    }

    /// Whether the daemons are there again when the machine has started.
    async fn reboot(&mut self, helper: &Helper, wanted: &[(String, PathBuf)]) -> Check {
        let check = |status, issues| Check {
            id: "startup",
            description: "Daemons come back after a reboot".into(),
            status,
            issues,
        };
        if wanted.is_empty() {
            return check(Status::Skipped, Vec::new());
        }
        let program = startup::program(self.layout);
        if !program.exists() && self.mend(format!("{} was not there, which a unit of systemd runs", program.display()))
        {
            let _ = helper.make_current();
        }
        let layout = self.layout.clone();
        match tokio::task::spawn_blocking(move || reboot::complaints(&layout, &program)).await {
            Ok(Some(issues)) if issues.is_empty() => check(Status::Passed, issues),
            Ok(Some(issues)) => check(Status::Warning, issues),
            _ => check(Status::Skipped, Vec::new()),
        }
    }

    async fn supervisor(&mut self, helper: &Helper, name: &str, dir: &Path) -> Result<(), Issue> {
        if let Err(error) = spec::read::<spec::Document>(&dir.join(spec::CURRENT)) {
            let hint = "deploy again: it is made anew";
            return Err(issue(format!("{name}: what it is to run cannot be read: {error}"), Some(hint)));
        }
        let Err(error) = control::status(dir).await else { return Ok(()) };
        if !self.mend(format!("{name}: {}", error.message)) {
            return Err(issue(format!("{name}: {}", error.message), None));
        }
        if error.code == UNRESPONSIVE {
            let _ = control::call_or_end(dir, CONTROL, Op::Status).await;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let scanned = helper.scan().await;
            match (control::status(dir).await, scanned) {
                (Ok(_), _) => return Ok(()),
                (_, Err(error)) | (Err(error), _) if Instant::now() > until => {
                    return Err(issue(format!("{name}: {}", error.message), error.hint.as_deref()));
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

const SANDBOX: &str = "This machine can make sandboxes";

fn sandbox(overlay: bool) -> Check {
    let copied = "layers cannot be mounted here (overlayfs) and are copied for every daemon, which takes time and disk";
    let issues = if overlay { Vec::new() } else { vec![issue(copied.to_owned(), None)] };
    let status = if overlay { Status::Passed } else { Status::Warning };
    Check { id: "sandbox", description: SANDBOX.into(), status, issues }
}

fn limited(layout: &Layout) -> Check {
    let issues: Vec<Issue> =
        limits::refused(layout).into_iter().map(|why| issue(why.message, why.hint.as_deref())).collect();
    let status = if issues.is_empty() { Status::Passed } else { Status::Warning };
    Check { id: "limits", description: "Limits of processor and memory hold".into(), status, issues }
}

/// What a daemon's owner should know about it.
fn complaint(name: &str, status: &ResourceStatus) -> Option<Issue> {
    matches!(status.state, State::CrashLooping | State::Failed).then(|| ailing(name, status))
}

/// Why a daemon is not up.
pub(super) fn ailing(name: &str, status: &ResourceStatus) -> Issue {
    let why = status.conditions.iter().find(|condition| condition.kind == "Ready").map(|ready| ready.message.as_str());
    let id = name.rsplit('/').next().unwrap_or(name);
    issue(format!("{name}: {}", why.unwrap_or("it is not up")), Some(&format!("`alien logs {id}` has its output")))
}

fn failed(id: &'static str, description: &'static str, issue: Issue) -> Check {
    Check { id, description: description.into(), status: Status::Failed, issues: vec![issue] }
}

pub(super) fn issue(message: String, hint: Option<&str>) -> Issue {
    Issue { path: Vec::new(), code: "custom".to_owned(), message, hint: hint.map(str::to_owned) }
}

pub(super) fn reported(report: Report) -> Issue {
    issue(report.message, report.hint.as_deref())
}

/// Half-made things in a folder.
fn hidden(dir: &Path) -> Vec<PathBuf> {
    let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_hidden).collect()
}

/// The lock of a deployment's folder, where nobody is changing that. One without a lock is what is left of a removal.
pub(super) fn locked(deployment: &Path) -> Option<Option<File>> {
    match File::options().read(true).write(true).open(deployment.join("lock")) {
        Ok(file) => file.try_lock().is_ok().then_some(Some(file)),
        Err(_) => Some(None),
    }
}
