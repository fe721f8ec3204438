//! Files that are whole, or not there.

use super::process;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
