//! What a daemon sees: the image as its whole world, as in a container, without a container engine.
//!
//! # Theory of operation
//!
//! A sandbox is built once and used for every version of the daemon that wants the same. [`build`] runs in a child of
//! the supervisor: it makes user, mount, ipc and uts namespaces, mounts the image's layers with a writable top, `/dev`,
//! `/sys`, `/tmp` and the daemon's own mounts, pivots into that, checks that the image's user and program exist, and then
//! only has to stay until its parent has opened the namespaces ([`Namespaces`]). They live as long as those descriptors:
//! no process needs to hold them, and nothing of them is visible on the host's mount table.
//!
//! For a version of the daemon, a child enters the namespaces and clones an init into a new pid namespace; the init makes
//! its own copy of the mounts with a new `/proc` ([`proc`]) and forks the program, which gives up its rights and executes
//! ([`exec`]).
//!
//! The user namespace is the reason that all of this needs no root: inside it the builder may mount. When the caller
//! *is* root it still gets one, with every id mapped to itself, so that root inside has no say over the host.
//!
//! The last of those rights are system calls: those that a program in a container has no use for are refused
//! ([`seccomp`]).
//!
//! All paths inside the image are resolved with openat2's `RESOLVE_IN_ROOT`: a link in an image cannot lead a mount
//! or a look-up to the host's files.

pub mod build;
pub mod cgroup;
pub mod copy;
mod dev;
pub mod exec;
pub mod ids;
pub mod own;
pub mod probe;
pub mod proc;
mod report;
mod seccomp;
pub mod secrets;
mod user;

use crate::sys::process::{self, Pid};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Everything that decides how the sandbox looks; two equal values can share one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Unpacked layers, absolute paths, lowest first.
    pub layers: Vec<PathBuf>,
    /// The folder that holds the writable top; kept while the image's digest stays the same.
    pub top: PathBuf,
    /// Whether the layers are mounted (overlayfs) or, where the machine cannot do that, copied.
    pub overlay: bool,
    /// How ids inside become ids outside.
    pub ids: ids::Ids,
    /// The host name inside.
    pub hostname: String,
    /// What of the host is there besides the image, in this order.
    pub mounts: Vec<Mount>,
}

/// A folder of the host that the daemon may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Absolute path outside; made when it is missing.
    pub source: PathBuf,
    /// Absolute path inside; made when it is missing.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether a new source begins as a copy of what the image has at the target, as an image's `VOLUME` does.
    pub filled_from_image: bool,
    /// Whether its files are for the program's user alone; see [`secrets`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets: bool,
}

/// What runs in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// Program and arguments; a program without `/` is looked up in the environment's `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`, all of it: nothing is inherited.
    pub env: Vec<String>,
    /// Absolute path; made when it is missing.
    pub cwd: PathBuf,
    /// As in an image's `USER`: empty, `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
}

/// Why a sandbox could not be built or a program not be started, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Upper snake case.
    pub code: String,
    /// What was wrong, with path or name.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Failure { code: code.to_owned(), message: message.into(), hint: None }
    }

    /// The same failure with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error of the machine while the sandbox was made.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let failure = Failure::new("SANDBOX_FAILED", format!("the sandbox could not be made: {error}"));
        match error.raw_os_error().or_else(|| os_code(&error)) {
            Some(libc::ENOSPC) => failure.hint("free space in the state directory's file system"),
            Some(libc::EPERM | libc::EACCES) => failure.hint(
                "a security module or the container around us may forbid it; the kernel's log (dmesg) says which",
            ),
            _ => failure,
        }
    }
}

/// errno of an error that has had context added to it.
fn os_code(error: &io::Error) -> Option<i32> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(libc::EPERM),
        io::ErrorKind::StorageFull => Some(libc::ENOSPC),
        _ => None,
    }
}

/// The namespaces of a built sandbox; they end when this is dropped and no process is left inside.
pub struct Namespaces {
    user: OwnedFd,
    others: [(OwnedFd, libc::c_int); 3],
}

impl Namespaces {
    /// Takes hold of the namespaces of `pid`.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let open = |name: &str| std::fs::File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
        Ok(Namespaces {
            user: open("user")?,
            others: [
                (open("ipc")?, libc::CLONE_NEWIPC),
                (open("uts")?, libc::CLONE_NEWUTS),
                (open("mnt")?, libc::CLONE_NEWNS),
            ],
        })
    }

    /// Their descriptors: user, ipc, uts, mount.
    pub fn descriptors(&self) -> [RawFd; 4] {
        let [ipc, uts, mnt] = self.others.each_ref().map(|(namespace, _)| namespace.as_raw_fd());
        [self.user.as_raw_fd(), ipc, uts, mnt]
    }

    /// Those behind descriptors that were open already, in the same order.
    pub fn adopted([user, ipc, uts, mnt]: [OwnedFd; 4]) -> Self {
        let others = [(ipc, libc::CLONE_NEWIPC), (uts, libc::CLONE_NEWUTS), (mnt, libc::CLONE_NEWNS)];
        Namespaces { user, others }
    }

    /// Moves this process inside: its root, user and rights are then those of the sandbox's root user.
    pub fn enter(&self) -> io::Result<()> {
        self.enter_user()?;
        self.others.iter().try_for_each(|(namespace, kind)| process::setns(namespace.as_fd(), *kind))
    }

    /// Moves this process inside for good, and what it starts from now on beside `pid`: also its pid and cgroup namespaces,
    /// which are made anew with each start.
    pub fn enter_beside(&self, pid: Pid) -> io::Result<()> {
        let open = |name: &str| std::fs::File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
        let (its_pids, its_groups) = (open("pid")?, open("cgroup")?);
        self.enter()?;
        process::setns(its_groups.as_fd(), libc::CLONE_NEWCGROUP)?;
        process::setns(its_pids.as_fd(), libc::CLONE_NEWPID)
    }

    /// Moves this process into the user namespace alone: the host's files, with the rights of the sandbox's root
    /// over those that belong to its ids.
    pub fn enter_user(&self) -> io::Result<()> {
        process::setns(self.user.as_fd(), libc::CLONE_NEWUSER)
    }
}

/// The folders of one writable top.
pub struct Top<'a>(pub &'a Path);

impl Top<'_> {
    /// Where overlayfs keeps what the daemon wrote.
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    /// overlayfs' own scratch folder, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Where the root is mounted, or where the layers are copied to.
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Files made for the daemon: `hosts`, `hostname`, `resolv.conf`.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }
}
