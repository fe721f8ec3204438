//! How user and group ids inside a sandbox become ids outside (user_namespaces(7)).

use super::Failure;
use super::report::{tell, verdict};
use crate::sys::process::{self, Fork, Pid};
use crate::sys::socket;
use serde::{Deserialize, Serialize};
use std::io;
use std::process::{Command, Stdio};

/// A mapping of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Ids {
    /// Every id is itself: the caller is root.
    Identity,
    /// Only root exists inside, and is the caller outside: an ordinary user without subordinate ids.
    Single { uid: u32, gid: u32 },
    /// Root is the caller; ids from 1 on are the caller's subordinate ids (subuid(5)), set by `newuidmap`.
    Subordinate { uid: u32, gid: u32, uids: Range, gids: Range },
}

/// Ids from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id outside.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Ids {
    /// Whether a process inside may become this user.
    pub fn has_user(&self, id: u32) -> bool {
        match self {
            Ids::Identity => true,
            Ids::Single { .. } => id == 0,
            Ids::Subordinate { uids, .. } => id <= uids.count,
        }
    }

    /// Whether a process inside may become this group.
    pub fn has_group(&self, id: u32) -> bool {
        match self {
            Ids::Identity => true,
            Ids::Single { .. } => id == 0,
            Ids::Subordinate { gids, .. } => id <= gids.count,
        }
    }

    /// Gives the new user namespace of `pid` this mapping. Called by its parent, from outside.
    pub fn apply_to(&self, pid: Pid) -> io::Result<()> {
        match self {
            Ids::Identity => {
                // Where we are in a user namespace ourselves, only the ids that exist here can be handed on.
                write(pid, "uid_map", &identity_of("/proc/self/uid_map")?)?;
                write(pid, "gid_map", &identity_of("/proc/self/gid_map")?)
            }
            Ids::Single { uid, gid } => {
                // Without this an ordinary user may not set a group map at all (CVE-2014-8989).
                write(pid, "setgroups", "deny")?;
                write(pid, "uid_map", &format!("0 {uid} 1\n"))?;
                write(pid, "gid_map", &format!("0 {gid} 1\n"))
            }
            Ids::Subordinate { uid, gid, uids, gids } => {
                map_with("newuidmap", pid, *uid, *uids)?;
                map_with("newgidmap", pid, *gid, *gids)
            }
        }
    }
}

/// Does `work` on the host's files with the rights of a sandbox's root: over all files that belong to its ids.
///
/// Where that root is the caller itself the work is just done; else it happens in a child in a user namespace.
pub fn as_root_of(ids: &Ids, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if !matches!(ids, Ids::Subordinate { .. }) {
        return work();
    }
    let (ours, theirs) = socket::message_pair()?;
    match process::fork()? {
        Fork::Child => {
            drop(ours);
            let result = process::unshare(libc::CLONE_NEWUSER).and_then(|()| {
                tell(&theirs, Ok(()));
                match socket::receive_wait(&theirs, &mut [0; 1]) {
                    socket::Received::Message(..) => work(),
                    _ => Err(io::Error::other("the new user namespace was given no ids")),
                }
            });
            tell(&theirs, result.map_err(Failure::from));
            process::exit_now(0)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let result = verdict(&ours).and_then(|()| {
                ids.apply_to(pid)?;
                socket::send(&ours, b"m")?;
                verdict(&ours)
            });
            drop(ours);
            process::wait(pid)?;
            result.map_err(|failure| io::Error::other(failure.message))
        }
    }
}

fn identity_of(map: &str) -> io::Result<String> {
    let mut identity = String::new();
    for line in std::fs::read_to_string(map)?.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(inside), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) {
            identity.push_str(&format!("{inside} {inside} {count}\n"));
        }
    }
    Ok(identity)
}

fn write(pid: Pid, file: &str, text: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/{file}"), text)
        .map_err(|error| io::Error::new(error.kind(), format!("write {file} of the new user namespace: {error}")))
}

/// Only these setuid helpers may map ids other than the caller's own.
fn map_with(helper: &str, pid: Pid, own: u32, range: Range) -> io::Result<()> {
    let numbers = [pid as u32, 0, own, 1, 1, range.start, range.count].map(|number| number.to_string());
    let output = Command::new(helper)
        .args(&numbers)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("run {helper} (Debian package uidmap): {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{helper} refused: {}", said.trim())))
}
