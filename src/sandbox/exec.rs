//! The last steps before the daemon's own program: find it, become its user, give up rights, execute.

use super::user::{self, Identity};
use super::{Failure, Program, ids::Ids, seccomp};
use crate::sys::{self, Context, process, signal};
use std::ffi::CString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for when the environment names no `PATH`; what engines set by default.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What stays of root's rights (capabilities(7)): those over the sandbox's own files, users and processes.
/// Docker's default less the three that reach beyond (`NET_RAW`, `MKNOD`, `AUDIT_WRITE`).
const KEPT_CAPABILITIES: &[u32] = &[
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    31, // SETFCAP
];

/// A program that was found fit to run, with all that [`Ready::run`] needs.
pub struct Ready {
    identity: Identity,
    argv: Strings,
    env: Strings,
    file: CString,
    cwd: PathBuf,
}

/// Strings as execve(2) takes them.
struct Strings {
    /// Points into the others' own memory, which stays where it is; ends with a null pointer.
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: &[String]) -> io::Result<Strings> {
        let strings = strings.iter().map(sys::c_string).collect::<io::Result<Vec<_>>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Strings { pointers, _strings: strings })
    }
}

/// Checks, from inside the sandbox, that the program's user exists and its file can be executed.
pub fn prepare(program: &Program, ids: &Ids) -> Result<Ready, Failure> {
    process::set_umask(0o022);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let identity = user::resolve(&program.user, &read("/etc/passwd"), &read("/etc/group"), ids)?;
    std::fs::create_dir_all(&program.cwd).map_err(|error| {
        let cwd = program.cwd.display();
        Failure::new(
            "WORKING_DIR_UNUSABLE",
            format!("the working directory {cwd} cannot be made in the image: {error}"),
        )
    })?;
    let file = find(program)?;
    let mut env = program.env.clone();
    for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", identity.home.as_str())] {
        if value_of(&env, name).is_none() {
            env.push(format!("{name}={value}"));
        }
    }
    Ok(Ready {
        argv: Strings::new(&program.argv)?,
        env: Strings::new(&env)?,
        file: sys::c_path(file)?,
        cwd: program.cwd.clone(),
        identity,
    })
}

fn value_of<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// The file that execvp(3) would take: a name without `/` is looked up in `PATH`.
fn find(program: &Program) -> Result<PathBuf, Failure> {
    let name = program.argv.first().ok_or_else(|| {
        Failure::new("ENTRYPOINT_MISSING", "the image has neither an entry point nor a command")
            .hint("set one with .command([...]) or in the image's ENTRYPOINT or CMD")
    })?;
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![program.cwd.join(name)]
    } else {
        let path = value_of(&program.env, "PATH").unwrap_or(DEFAULT_PATH);
        path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(name)).collect()
    };
    let mut unfit = None;
    for candidate in candidates {
        match std::fs::metadata(&candidate) {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(metadata) => unfit = unfit.or(Some((candidate, metadata.is_dir()))),
            Err(_) => {}
        }
    }
    Err(match unfit {
        Some((path, is_dir)) => Failure::new(
            "ENTRYPOINT_NOT_EXECUTABLE",
            format!("{} in the image {}", path.display(), if is_dir { "is a folder" } else { "is not executable" }),
        )
        .hint("make it executable (chmod +x) in the image, or name another program with .command([...])"),
        None => {
            let place = if name.contains('/') { "in the image" } else { "in the image's PATH" };
            Failure::new("ENTRYPOINT_MISSING", format!("the program {name:?} does not exist {place}"))
                .hint("check the image's ENTRYPOINT and CMD, or .command([...])")
        }
    })
}

/// Gives up what no program in a sandbox needs, for this process and all that it starts: root's further rights, system
/// calls ([`seccomp`]), and the hope of getting any back. Signals are from then on as after a boot, for what is started.
pub fn give_up_rights() -> io::Result<()> {
    for capability in (0..64).filter(|capability| !KEPT_CAPABILITIES.contains(capability)) {
        match process::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) {
            // This kernel does not know so high a number, nor a higher one.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            dropped => dropped.context(|| format!("give up capability {capability}"))?,
        }
    }
    signal::default_all();
    process::no_new_privileges()?;
    seccomp::apply()
}

impl Ready {
    /// User and group id that it runs as, inside.
    pub fn user(&self) -> (u32, u32) {
        (self.identity.uid, self.identity.gid)
    }

    /// Becomes the program, after [`give_up_rights`]. Returns only what went wrong.
    ///
    /// Leaves nothing allocated behind when it does become the program: it may be called in memory that is somebody else's
    /// too ([`process::spawn`]).
    pub fn run(&self) -> Failure {
        if let Err(error) = self.become_user() {
            return Failure::from(error);
        }
        signal::unblock_all();
        // SAFETY: both lists end with a null pointer and point into strings that live in `self`.
        unsafe { libc::execve(self.file.as_ptr(), self.argv.pointers.as_ptr(), self.env.pointers.as_ptr()) };
        let error = io::Error::last_os_error();
        let file = self.file.to_string_lossy();
        match error.raw_os_error() {
            Some(libc::ENOENT) => Failure::new(
                "EXEC_FAILED",
                format!("{file} exists in the image, but the interpreter or loader that it names does not"),
            )
            .hint("the image lacks what the program's first line (#!) or its dynamic linking asks for"),
            Some(libc::ENOEXEC) => {
                Failure::new("EXEC_FAILED", format!("{file} in the image is not a program for this machine"))
                    .hint("a script needs a first line such as #!/bin/sh; a binary must be built for this architecture")
            }
            Some(libc::EACCES) => Failure::new(
                "ENTRYPOINT_NOT_EXECUTABLE",
                format!("{file} in the image may not be executed by user {}", self.identity.uid),
            )
            .hint("check the file's mode and owner, and those of its folders, in the image"),
            _ => Failure::new("EXEC_FAILED", format!("{file} in the image cannot be executed: {error}")),
        }
    }

    fn become_user(&self) -> io::Result<()> {
        let Identity { uid, gid, groups, .. } = &self.identity;
        // An ordinary user's namespace without subordinate ids, and all within it, must not drop groups
        // (user_namespaces(7), "The /proc/pid/setgroups file").
        if std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() != "deny") {
            sys::check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
                .context(|| "set groups".to_owned())?;
        }
        sys::check(unsafe { libc::setresgid(*gid, *gid, *gid) }).context(|| format!("become group {gid}"))?;
        sys::check(unsafe { libc::setresuid(*uid, *uid, *uid) }).context(|| format!("become user {uid}"))?;
        std::env::set_current_dir(&self.cwd).context(|| format!("enter the working directory {}", self.cwd.display()))
    }
}
