//! The helper program, in the state directory's own copy: its short errands, and the scanner.

use super::control::{self, Conversation, UNRESPONSIVE};
use super::layout::{Layout, make_dir, unusable};
use crate::error::Report;
use crate::model::names::fingerprint;
use crate::sandbox::ids::Ids;
use crate::sandbox::probe::Capability;
use crate::supervisor::handover::{self, CURRENT, PROGRAM};
use crate::supervisor::protocol::{Op, Reply, SCANNER};
use crate::supervisor::{lock, scanner};
use crate::sys::file::{ABANDONED, put, sweep};
use crate::sys::{process, time};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a scanner may take until it can be reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// Beside each program: the release of the package that it came with.
const RELEASE: &str = "release";

/// The installed helper of one state directory.
#[derive(Debug, Clone)]
pub struct Helper {
    layout: Layout,
    program: PathBuf,
    digest: String,
}

/// What the package's helper is.
#[derive(Clone)]
struct Packaged {
    digest: String,
    size: u64,
}

impl Packaged {
    /// Reads a file once for as long as it stays the same: it is large, and asked about by every call.
    fn of(path: &Path) -> io::Result<Packaged> {
        type Key = (PathBuf, u64, i64, i64);
        static KNOWN: Mutex<Vec<(Key, Packaged)>> = Mutex::new(Vec::new());
        let metadata = fs::metadata(path)?;
        let key = (path.to_owned(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packaged)) = known.iter().find(|(there, _)| *there == key) {
            return Ok(packaged.clone());
        }
        let bytes = fs::read(path)?;
        let packaged = Packaged { digest: fingerprint(&bytes, 16), size: bytes.len() as u64 };
        // One of each path: what was replaced is never asked about again.
        known.retain(|((there, ..), _)| there != path);
        known.push((key, packaged.clone()));
        Ok(packaged)
    }
}

/// Copies a program of the package to where its digest says, unless it is there. Gives where it is, and the digest.
fn copy_in(packaged: &Path, place: impl Fn(&str) -> PathBuf) -> Result<(PathBuf, String), Report> {
    let missing = |error: io::Error| {
        Report::new("HELPER_MISSING", format!("cannot read the program {}: {error}", packaged.display()))
            .hint("reinstall @alienplatform/core; in a clone, run `npm run build`")
    };
    let Packaged { digest, size } = Packaged::of(packaged).map_err(missing)?;
    let program = place(&digest);
    if !fs::metadata(&program).is_ok_and(|there| there.len() == size) {
        let bytes = fs::read(packaged).map_err(missing)?;
        let dir = program.parent().unwrap_or(&program);
        make_dir(dir)?;
        put(&program, 0o700, |file| file.write_all(&bytes)).map_err(|error| unusable(&program, &error))?;
    }
    Ok((program, digest))
}

/// What orders releases: three numbers, and that a pre-release comes before its release (semver.org, 11).
fn release(text: &str) -> ([u64; 3], bool, &str) {
    let (version, _) = text.trim().split_once('+').unwrap_or((text.trim(), ""));
    let (numbers, before) = version.split_once('-').unwrap_or((version, ""));
    let mut parts = numbers.split('.').map(|part| part.parse().unwrap_or(0));
    ([(); 3].map(|()| parts.next().unwrap_or(0)), before.is_empty() && !version.is_empty(), before)
}

impl Helper {
    /// Copies the package's helper into the state directory, unless this very one is there.
    pub fn install(layout: &Layout, packaged: &Path) -> Result<Helper, Report> {
        let (program, digest) = copy_in(packaged, |digest| layout.bin().join(digest).join(PROGRAM))?;
        // Of a copy that was cut short, by whoever is not still at it.
        for dir in [Some(layout.bin().as_path()), program.parent()].into_iter().flatten() {
            sweep(dir, &["."], ABANDONED);
        }
        let release = program.with_file_name(RELEASE);
        if !release.exists() {
            let write = |file: &mut fs::File| file.write_all(env!("CARGO_PKG_VERSION").as_bytes());
            put(&release, 0o600, write).map_err(|error| unusable(&release, &error))?;
        }
        Ok(Helper { layout: layout.clone(), program, digest })
    }

    /// The program that the tree is to run from now on: ours, unless it is a later release's already.
    pub fn make_current(&self) -> io::Result<PathBuf> {
        let bin = self.layout.bin();
        let link = bin.join(CURRENT);
        if let Ok(there) = fs::read_link(&link) {
            let program = bin.join(&there).join(PROGRAM);
            let its = fs::read_to_string(program.with_file_name(RELEASE)).unwrap_or_default();
            let is_later = release(&its) > release(env!("CARGO_PKG_VERSION"));
            if program.exists() && (is_later || program == self.program) {
                return Ok(program);
            }
        }
        let aside = bin.join(format!(".{CURRENT}.{}", process::random_name()?));
        std::os::unix::fs::symlink(&self.digest, &aside)?;
        fs::rename(&aside, &link).inspect_err(|_| drop(fs::remove_file(&aside)))?;
        Ok(self.program.clone())
    }

    /// Has a tree that runs another program than it should become that one. No daemon is touched. One that cannot goes on
    /// as it is.
    pub async fn renew(&self) {
        let Ok(program) = self.make_current() else { return };
        let root = self.layout.root();
        let Some(scanner) = lock::holder(&root.join(scanner::LOCK)) else { return };
        if !handover::runs(&scanner.to_string(), &program)
            && control::call_or_end(root, SCANNER, Op::Renew).await.is_ok()
        {
            // Who answers now is the new one.
            let _ = control::call(root, SCANNER, Op::Scan).await;
        }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether this is the folder that it lies in, or the one that the tree runs.
    pub fn is_in(&self, dir: &Path) -> bool {
        let current = fs::read_link(self.layout.bin().join(CURRENT));
        self.program.parent() == Some(dir) || current.is_ok_and(|name| self.layout.bin().join(name) == dir)
    }

    /// Copies another program of the package into a folder of its own beside the helper, as the whole of an image.
    /// Gives the folder, and the program's digest.
    pub fn install_beside(&self, packaged: &Path, name: &str) -> Result<(PathBuf, String), Report> {
        let file = packaged.file_name().unwrap_or_default();
        let (program, digest) = copy_in(packaged, |digest| self.layout.bin().join(digest).join(name).join(file))?;
        Ok((program.parent().unwrap_or(&program).to_owned(), digest))
    }

    /// What this machine allows in this state directory. Found out once for each boot, then remembered.
    pub fn probe(&self, ids: &Ids) -> Result<Capability, Report> {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let key = fingerprint(format!("{}\n{boot}\n{ids}", self.digest), 16);
        let remembered = self.layout.root().join(format!("probe-{key}.json"));
        // One at a time in this process: calls that begin together would try in one folder, and disturb each other.
        static TRYING: Mutex<()> = Mutex::new(());
        let _turn = TRYING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(capability) = crate::supervisor::spec::read(&remembered) {
            return Ok(capability);
        }
        sweep(self.layout.root(), &[".probe-", ".probe."], ABANDONED);
        let scratch = self.layout.root().join(format!(".probe-{}", std::process::id()));
        make_dir(&scratch)?;
        let said = self.run([OsStr::new("probe"), scratch.as_os_str(), OsStr::new(&ids)]);
        let _ = fs::remove_dir_all(&scratch);
        let capability: Capability = serde_json::from_str(&said?)
            .map_err(|error| Report::new("INTERNAL", format!("the helper's answer cannot be read: {error}")))?;
        // Only what is good is remembered: who follows a hint shall see it work.
        if capability.sandbox.is_none() && capability.overlay.is_none() {
            let _ = crate::supervisor::spec::write(&remembered, &capability);
        }
        Ok(capability)
    }

    /// Gives the files of an unpacked layer their owners.
    pub fn own(&self, list: &Path, layer: &Path, ids: &Ids) -> Result<(), Report> {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        self.run([OsStr::new("own"), list.as_os_str(), layer.as_os_str(), OsStr::new(&ids)]).map(drop)
    }

    /// Removes a tree whose files may belong to the account's subordinate ids.
    pub fn remove(&self, tree: &Path, ids: &Ids) -> Result<(), Report> {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        self.run([OsStr::new("remove"), tree.as_os_str(), OsStr::new(&ids)]).map(drop)
    }

    /// Looks at or changes a folder of secrets that belongs to one of the account's subordinate ids. What it says.
    pub fn secrets(
        &self,
        what: &str,
        dir: &Path,
        ids: &Ids,
        name: Option<&str>,
        value: &[u8],
    ) -> Result<String, Report> {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let words = [OsStr::new("secrets"), OsStr::new(what), dir.as_os_str(), OsStr::new(&ids)];
        self.run_with(words.into_iter().chain(name.map(OsStr::new)), value)
    }

    /// Changes the folders, and sees to it that a scanner has looked at them since: the one that is there also where we are
    /// killed in between.
    pub async fn scan_after(&self, change: impl FnOnce() -> Result<(), Report>) -> Result<(), Report> {
        let scanner = Conversation::connect(self.layout.root(), SCANNER).await.ok();
        change()?;
        if let Some(mut scanner) = scanner
            && scanner.say(Op::Scan).await.is_ok()
            && matches!(scanner.next_soon().await, Ok(Reply::Accepted))
        {
            return Ok(());
        }
        self.scan().await
    }

    /// Sees to it that a scanner is there and has looked at the folders since this call.
    pub async fn scan(&self) -> Result<(), Report> {
        self.scan_while(|| true).await
    }

    /// The same while `needed` says so: a scanner that has nothing left to keep ends, and cannot be reached then.
    pub async fn scan_while(&self, needed: impl Fn() -> bool + Send) -> Result<(), Report> {
        let mut patience = time::monotonic() + PATIENCE;
        let mut tried = false;
        let mut replaced = false;
        loop {
            let error = match control::call_or_end(self.layout.root(), SCANNER, Op::Scan).await {
                Ok(Reply::Refused(failure)) => return Err(failure.into()),
                Ok(_) => return Ok(()),
                Err(_) if !needed() => return Ok(()),
                Err(error) => error,
            };
            if error.code == UNRESPONSIVE && !replaced {
                // It took its time, and is gone now.
                patience = time::monotonic() + PATIENCE;
                replaced = true;
            }
            if time::monotonic() > patience {
                let root = self.layout.root().display();
                let message = format!("the scanner of {root} cannot be reached: {}", error.message);
                let log = self.layout.root().join(crate::supervisor::scanner::LOG);
                return Err(Report::new("SCANNER_UNREACHABLE", message).hint(format!("see {}", log.display())));
            }
            // Another process's scanner may hold the lock and not listen yet.
            if std::mem::replace(&mut tried, true) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let (helper, root) = (self.clone(), self.layout.root().to_owned());
            let start = move || {
                let program = helper.make_current().unwrap_or_else(|_| helper.program.clone());
                Helper { program, ..helper }.run([OsStr::new("scan"), root.as_os_str()])
            };
            tokio::task::spawn_blocking(start).await.map_err(|error| Report::new("INTERNAL", error.to_string()))??;
        }
    }

    fn run<const N: usize>(&self, arguments: [&OsStr; N]) -> Result<String, Report> {
        self.run_with(arguments, b"")
    }

    fn run_with<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>, input: &[u8]) -> Result<String, Report> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = || {
            if input.is_empty() {
                return command.stdin(Stdio::null()).output();
            }
            let mut child = command.stdin(Stdio::piped()).spawn()?;
            // One that has ended over it says why.
            let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
            child.wait_with_output()
        };
        let output = run().map_err(|error| {
            let report = Report::new("HELPER_FAILED", format!("cannot run {}: {error}", self.program.display()));
            match error.kind() {
                io::ErrorKind::PermissionDenied => report.hint(
                    "the state directory's file system may be mounted noexec; choose another with --state-dir or ALIEN_STATE_DIR",
                ),
                _ => report,
            }
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("alien-supervisor: ");
            return Err(Report::new("HELPER_FAILED", format!("the helper program failed: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn releases_are_in_their_order() {
        let order = ["", "0.1.0-rc.1", "0.1.0", "0.1.1+build", "0.2.0-alpha", "0.2.0-beta", "0.2.0", "0.10.0", "1.0.0"];
        for pair in order.windows(2) {
            assert!(release(pair[0]) < release(pair[1]), "{pair:?}");
        }
        assert_eq!(release("0.1.0\n"), release("0.1.0+other"));
    }
}
