//! Which system calls a daemon may make: a filter that the kernel asks at each (seccomp(2)), no wider than the one that
//! Docker gives a container by default.
//!
//! The [`policy`] is compiled by the build script, see `compile`; what is here hands the finished program to the kernel.

#[cfg(test)]
mod compile;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod tests;

use crate::sys::{Context, check_long};
use std::io;

include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));

/// From here on this process, and all that it starts, makes no other system calls. It can gain no rights any more
/// (`no_new_privs`), which the kernel asks for.
pub fn apply() -> io::Result<()> {
    let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the filter and does not write to it.
    check_long(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
        .map(drop)
        .context(|| "limit its system calls".to_owned())
}
