//! Files that are whole, or not there; and room for them.

use super::{check, process};
use std::ffi::{CString, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// How long what is half-made is taken for somebody's who is still at it, where no lock says more.
pub const ABANDONED: Duration = Duration::from_secs(600);

/// Writes a file aside and puts it in its place: nobody ever sees half of it, or with other rights than `mode`. Two that do
/// it at once both end with a whole file.
pub fn put(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // A name that begins with a dot is somebody's half-made thing, and belongs to nobody else.
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", process::random_name()?));
    let staged = path.with_file_name(name);
    let staging = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&staged)?;
        write(&mut file)?;
        // A program that is still open for writing cannot be started.
        drop(file);
        fs::rename(&staged, path)
    };
    staging().inspect_err(|_| drop(fs::remove_file(&staged)))
}

/// Removes what somebody who was killed has left half-made in `dir`: entries whose names begin with one of these, and that
/// nobody has touched for `age`.
pub fn sweep(dir: &Path, prefixes: &[&str], age: Duration) {
    let is_old = |entry: &fs::DirEntry| {
        let touched = entry.metadata().and_then(|metadata| metadata.modified());
        age.is_zero() || touched.is_ok_and(|touched| touched.elapsed().is_ok_and(|since| since >= age))
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if prefixes.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes())) && is_old(&entry) {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// Makes a folder of this mode, whatever the umask, where there is none: nobody ever sees it with another one.
pub fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    let staged = dir.with_file_name(format!(".{}", process::random_name()?));
    fs::create_dir_all(&staged)?;
    fs::set_permissions(&staged, Permissions::from_mode(mode))?;
    put_dir(&staged, dir)
}

/// Puts a folder that was made aside in its place, unless somebody was quicker: then that one stays, and is not replaced
/// even where it is empty, as rename(2) would. What was made goes then.
pub fn put_dir(staged: &Path, dir: &Path) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (from, to) = (text(staged)?, text(dir)?);
    let renamed = check(unsafe {
        libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::RENAME_NOREPLACE)
    });
    match renamed {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_dir_all(staged),
        other => other.map(drop),
    }
}

/// Bytes that an ordinary account may still write where `path` is.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeroes is a valid statvfs, which the call fills.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
