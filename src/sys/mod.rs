//! The system calls that the helper program needs and the standard library does not have.
//!
//! Everything here is a thin, safe name for a Linux call; none of it decides anything. It uses libc only, because
//! the helper is what stays resident: see `supervisor`.

#[cfg(feature = "addon")]
pub mod blocks;
pub mod file;
pub mod heap;
pub mod memory;
pub mod mount;
pub mod path;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod time;

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A call's result: −1 means that errno says why.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that answer with a long.
pub fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A path as the kernel takes it.
///
/// # Errors
/// `InvalidInput` where the path holds a NUL byte.
pub fn c_path(path: impl AsRef<Path>) -> io::Result<CString> {
    c_string(path.as_ref().as_os_str().as_bytes())
}

/// Bytes as the kernel takes a string.
///
/// # Errors
/// `InvalidInput` where there is a NUL byte in them.
pub fn c_string(bytes: impl AsRef<[u8]>) -> io::Result<CString> {
    CString::new(bytes.as_ref()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a string"))
}

/// Adds to an error what was being done, as in `mount overlay on /x: Permission denied (os error 13)`.
pub trait Context<T> {
    /// `what` is a verb and its object.
    fn context(self, what: impl FnOnce() -> String) -> io::Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> io::Result<T> {
        self.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", what())))
    }
}
