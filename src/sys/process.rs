//! Processes: fork, clone into namespaces, wait, pidfds, and what a process may still do.

use super::memory::Stack;
use super::{check, check_long};
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A process id as this process sees it.
pub type Pid = libc::pid_t;

/// Which side of a fork one is on.
pub enum Fork {
    /// In the new process.
    Child,
    /// In the old one, which now has this child.
    Parent(Pid),
}

/// Forks. The helper has one thread, so the child may do anything.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: no other thread exists that could hold a lock in the child.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Forks into a control group of version 2, by an open folder of it: the child is there from its beginning.
pub fn fork_into(group: &OwnedFd) -> io::Result<Fork> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = group.as_raw_fd() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    clone3(args)
}

/// Forks into the namespaces of `flags` (`CLONE_NEW*`). With `CLONE_PARENT` the new process is a sibling.
pub fn clone(flags: libc::c_int) -> io::Result<Fork> {
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64;
    // With CLONE_PARENT the kernel takes the caller's own exit signal and insists on zero here.
    args.exit_signal = if flags & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD as u64 };
    clone3(args)
}

fn clone3(mut args: libc::clone_args) -> io::Result<Fork> {
    // SAFETY: no stack is given, so this is a fork; see `fork`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check_long(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as Pid)),
    }
}

/// Forks into the namespaces of `flags`, with `run` on a stack of its own; what it gives back is the exit code. With
/// `CLONE_PARENT` the new process is a sibling.
pub fn clone_onto<F: FnMut() -> i32>(stack: &mut Stack, flags: libc::c_int, mut run: F) -> io::Result<Pid> {
    // SAFETY: the child has a copy of our memory, and with it one of the closure; see `fork`.
    unsafe { clone_with(stack, flags, &mut run) }
}

/// The stack of a child that is to begin with [`spawn`].
const STACK: usize = 128 * 1024;

/// Starts a child that runs `become_program` in this process's own memory, on a stack of its own, and waits until it has
/// executed a program or ended, with the code that was given back: what posix_spawn(3) does, at a fraction of a fork's
/// cost, since no memory has to be made ready to be copied (clone(2), `CLONE_VM` and `CLONE_VFORK`).
///
/// What `become_program` allocates and does not free before it becomes a program, this process has lost.
pub fn spawn<F: FnMut() -> i32>(mut become_program: F) -> io::Result<Pid> {
    let mut stack = Stack::new(STACK)?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this process has one thread, which waits: nobody but the child uses its memory until it has one of its own.
    unsafe { clone_with(&mut stack, flags, &mut become_program) }
}

/// clone(2), as the C library has it.
///
/// # Safety
/// `run` can be called for as long as the child lives or has not become a program.
unsafe fn clone_with<F: FnMut() -> i32>(stack: &mut Stack, flags: libc::c_int, run: &mut F) -> io::Result<Pid> {
    extern "C" fn enter<F: FnMut() -> i32>(run: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is what `clone_with` was given.
        unsafe { (*run.cast::<F>())() }
    }
    check(unsafe { libc::clone(enter::<F>, stack.top(), flags, (&raw mut *run).cast()) })
}

/// Ends this process at once, without running destructors that belong to its parent.
pub fn exit_now(code: i32) -> ! {
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// From the status word of `wait`.
    pub fn from_wait_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// From a single number, as shells, engines and kubelets give it: a signal is 128 and its number.
    pub fn from_shell_code(code: i32) -> Exit {
        if (129..=128 + 64).contains(&code) { Exit::Signal(code - 128) } else { Exit::Code(code) }
    }
}

/// Reaps one ended child, any of them, without waiting.
pub fn reap_any() -> Option<(Pid, i32)> {
    let mut status = 0;
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for this child to end.
pub fn wait(pid: Pid) -> io::Result<Exit> {
    let mut status = 0;
    loop {
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Ok(_) => return Ok(Exit::from_wait_status(status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A handle on a process that cannot come to mean another one; readable once the process has ended.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to the process behind a pidfd.
pub fn pidfd_kill(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    check_long(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Whether a process was stopped by a signal (SIGSTOP), and does nothing until it is continued.
pub fn is_stopped(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // proc_pid_stat(5): the state comes after the name, which may hold anything but ends at the last parenthesis.
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
}

/// Moves this process into a namespace.
pub fn setns(namespace: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// Moves this process into new namespaces.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Sends `signal` to this process when its parent ends.
pub fn die_with_parent(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// Nothing that this process executes may gain rights (`no_new_privs`).
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Hides this process's memory and its `/proc` links from those who lack rights over its own user namespace.
pub fn not_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// A one-argument prctl.
pub fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }).map(drop)
}

/// Rights that files made by this process do not get.
pub fn set_umask(mask: libc::mode_t) {
    unsafe { libc::umask(mask) };
}

/// As many open files at once as whoever started this process allows it at most.
pub fn allow_most_files() -> io::Result<()> {
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: i32) {
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if result < 0 {
        let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(256, 65_536) as i32;
        for fd in first..limit {
            unsafe { libc::close(fd) };
        }
    }
}

/// Makes `fd` also known as `number`; the copy survives exec.
pub fn dup_to(fd: &impl AsRawFd, number: i32) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop);
    }
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Gives a program that is to be started a descriptor under this number.
pub fn hand_over(command: &mut Command, fd: OwnedFd, number: i32) {
    // SAFETY: between fork and exec nothing but dup2 and fcntl is called, which may be.
    unsafe { command.pre_exec(move || dup_to(&fd, number)) };
}

/// Whether a descriptor goes when this process executes another program.
pub fn close_on_exec(fd: RawFd, yes: bool) -> io::Result<()> {
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, if yes { libc::FD_CLOEXEC } else { 0 }) }).map(drop)
}

/// Makes this process another program, without any environment and with its signals as they are: those that are blocked
/// stay so, and pending. It comes back only where that failed.
pub fn execute(program: &Path, arguments: &[OsString]) -> io::Result<Infallible> {
    let program = super::c_path(program)?;
    let arguments: Vec<CString> =
        arguments.iter().map(|argument| super::c_string(argument.as_bytes())).collect::<io::Result<_>>()?;
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: both lists end with a null pointer, and what they point to lives until the call comes back.
    unsafe { libc::execve(program.as_ptr(), pointers.as_ptr(), [std::ptr::null()].as_ptr()) };
    Err(io::Error::last_os_error())
}

/// A file that is nowhere but in memory, closed on exec.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Random bytes.
pub fn random<const SIZE: usize>() -> io::Result<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    check_long(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as libc::c_long)?;
    Ok(bytes)
}

/// Sixteen random bytes as 32 hex digits.
pub fn random_name() -> io::Result<String> {
    Ok(random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
