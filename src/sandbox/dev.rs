//! A minimal `/dev` (OCI runtime specification, "Default Devices").

use crate::sys::Context;
use crate::sys::mount::{bind, mount};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Covers `dev`, a folder of the new root, with a file system of its own.
pub fn populate(dev: &Path) -> io::Result<()> {
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount("tmpfs", dev, libc::MS_NOSUID, "mode=755,size=64k").context(|| "mount /dev".to_owned())?;
    for name in DEVICES {
        let target = dev.join(name);
        fs::File::create(&target)?;
        // A user namespace may not make device nodes; the host's own appear instead.
        bind(&Path::new("/dev").join(name), &target).context(|| format!("bind /dev/{name}"))?;
    }
    for (target, name) in LINKS {
        symlink(target, dev.join(name))?;
    }
    for (name, kind, options) in [
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620"),
        ("shm", "tmpfs", "mode=1777,size=64m"),
        ("mqueue", "mqueue", ""),
    ] {
        let target = dev.join(name);
        fs::create_dir(&target)?;
        let no_devices = if kind == "devpts" { 0 } else { libc::MS_NODEV };
        match mount(kind, &target, flags | no_devices, options) {
            // A kernel without POSIX message queues: programs that want them fail as they would on the host.
            Err(_) if kind == "mqueue" => fs::remove_dir(&target)?,
            other => other.context(|| format!("mount /dev/{name}"))?,
        }
    }
    fs::set_permissions(dev, fs::Permissions::from_mode(0o755))
}
