//! Signals as readable events, and their names.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A set of signals.
fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = unsafe { std::mem::zeroed() };
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// Every signal that can be blocked.
pub fn all() -> Vec<i32> {
    (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).collect()
}

/// As after a boot: nothing blocked, every disposition the default. What a fresh program expects.
pub fn reset_all() {
    default_all();
    unblock_all();
}

/// Gives every signal its default disposition.
pub fn default_all() {
    for signal in all() {
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Blocks no signal.
pub fn unblock_all() {
    let empty = set_of(&[]);
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Blocks these signals and gives a descriptor that is readable when one of them is pending.
pub fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal of a [`descriptor`], if any.
pub fn next(descriptor: &OwnedFd) -> Option<i32> {
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    let read = unsafe { libc::read(descriptor.as_raw_fd(), (&raw mut info).cast(), size) };
    (read == size as isize).then_some(info.ssi_signo as i32)
}

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// `SIGTERM`, `SIGRTMIN+3`.
pub fn name(signal: i32) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None if signal == 34 => "SIGRTMIN".to_owned(),
        None if (34..=64).contains(&signal) => format!("SIGRTMIN+{}", signal - 34),
        None => format!("signal {signal}"),
    }
}

/// A signal by name or number, as an image's `STOPSIGNAL` gives it: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn parse(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == short) {
        return Some(*number);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let number = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => 34 + offset(rest, '+')?,
        (_, Some(rest)) => 64 - offset(rest, '-')?,
        _ => return None,
    };
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_read_by_name_and_number() {
        for (text, number) in
            [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGWINCH", 28)]
        {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "SIGNOPE", "0", "65", "SIGRTMIN+31", "RTMIN-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(name(15), "SIGTERM");
        assert_eq!(name(37), "SIGRTMIN+3");
    }
}
