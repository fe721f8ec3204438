//! One program's work in the hands of another, in the same process: how a tree gets to a newer version of itself.
//!
//! execve(2) keeps what a supervisor is to its daemon: its pid, its children, its record locks as long as the file stays
//! open, its pending signals, and every descriptor that is not closed on exec. All else is written down, versioned, in a
//! file in memory that the new program reads. It is asked first, as a child, whether it understands: a program that does not
//! would end with the daemon it was given. Who cannot hand over goes on as it was.

use crate::sys::poll::PollSet;
use crate::sys::{Context, process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The document's version: a program takes over its own only.
const VERSION: u32 = 2;
/// The folders of programs in a state directory.
pub const BIN: &str = "bin";
/// A link among them to the folder of the one that everything is to run.
pub const CURRENT: &str = "current";
/// The program's name in its folder.
pub const PROGRAM: &str = "alien-supervisor";
/// How long the new program may take to say whether it understands.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Document<T> {
    v: u32,
    work: T,
}

/// The program that a state directory's tree is to run; the one that runs here where nothing is said about that.
pub fn wanted(state_dir: &Path) -> io::Result<PathBuf> {
    let bin = state_dir.join(BIN);
    // By its own name: the link may mean another one by the time that somebody looks.
    match fs::read_link(bin.join(CURRENT)).map(|name| bin.join(name).join(PROGRAM)) {
        Ok(program) if program.exists() => Ok(program),
        _ => std::env::current_exe(),
    }
}

/// Whether a process runs a program; its pid, or `self`. Also where the program's file has been removed since.
pub fn runs(process: &str, program: &Path) -> bool {
    match (fs::metadata(format!("/proc/{process}/exe")), fs::metadata(program)) {
        (Ok(ours), Ok(wanted)) => (ours.dev(), ours.ino()) == (wanted.dev(), wanted.ino()),
        _ => false,
    }
}

/// Makes this process another program, which goes on with `work`. `words` are its arguments before the descriptor of the
/// document; `open` is what stays open for it. It comes back only where that failed, and nothing has changed then.
pub fn hand_over<T: Serialize>(program: &Path, words: &[&Path], work: &T, open: &[RawFd]) -> io::Result<Infallible> {
    let mut document = process::memory_file(c"handover")?;
    document.write_all(&serde_json::to_vec(&Document { v: VERSION, work })?)?;
    check(program, words[0], &mut document)?;
    document.rewind()?;
    let mut arguments: Vec<OsString> = vec![program.into()];
    arguments.extend(words.iter().map(OsString::from));
    arguments.push(document.as_raw_fd().to_string().into());
    let inherit = |yes: bool| {
        open.iter().copied().chain([document.as_raw_fd()]).try_for_each(|fd| process::close_on_exec(fd, !yes))
    };
    let failed = inherit(true).and_then(|()| process::execute(program, &arguments));
    inherit(false)?;
    failed.context(|| format!("execute {}", program.display()))
}

/// Asks the new program whether it understands the document.
fn check(program: &Path, kind: &Path, document: &mut File) -> io::Result<()> {
    document.rewind()?;
    let mut child = Command::new(program)
        .arg("check")
        .arg(kind)
        .env_clear()
        .stdin(document.try_clone()?)
        .stdout(Stdio::null())
        .spawn()
        .context(|| format!("start {}", program.display()))?;
    let handle = process::pidfd_open(child.id() as process::Pid)?;
    let mut ended = PollSet::default();
    let key = ended.add(&handle);
    let _ = ended.wait(Some(PATIENCE));
    if !ended.ready(key) {
        let _ = child.kill();
    }
    if child.wait()?.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{} does not understand what it would have to go on with", program.display())))
}

/// What the document says, if it is one for this program.
pub fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    #[derive(Deserialize)]
    struct Any {
        v: u32,
    }
    match serde_json::from_slice::<Any>(&bytes)?.v {
        VERSION => Ok(serde_json::from_slice::<Document<T>>(&bytes)?.work),
        other => Err(io::Error::other(format!("a handover of version {other}; this program takes {VERSION}"))),
    }
}

/// Takes over what another program left in this process, by the document's descriptor.
pub fn take_over<T: DeserializeOwned>(descriptor: &str) -> io::Result<T> {
    read(File::from(adopt(descriptor.parse().map_err(io::Error::other)?)?))
}

/// Takes a descriptor that was left for us.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    process::close_on_exec(fd, true).context(|| format!("take over descriptor {fd}"))?;
    // SAFETY: it is open, as the call has shown, and whoever had it before is not here any more.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this process runs what its state directory wants it to; and what that is.
pub fn newer(state_dir: &Path) -> io::Result<Option<PathBuf>> {
    let program = wanted(state_dir)?;
    Ok((!runs("self", &program)).then_some(program))
}
