//! A folder of secrets, such as a vault: a file each, for one user alone.
//!
//! Folder and files (modes 0700 and 0600) are first of all the state directory's owner's, who is root inside. The first
//! daemon that runs as another user of its image is given them, as systemd gives a unit's credentials to its user
//! (systemd.exec(5), `LoadCredential=`); root inside reads them all the same. Where several such users come, no mode is for
//! just these, and they are opened to all (0777, 0644): outside, the state directory keeps others out.
//!
//! What the folder is says whose its files are to be, so that nothing else has to be remembered. Who looks at it and then
//! changes it holds the lock of the folder that it lies in, which no daemon sees.

use crate::sys::path::open_dir;
use crate::sys::{Context, file, mount};
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, lchown};
use std::path::Path;
use std::time::Duration;

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE: u32 = 0o600;
const OPEN_DIR: u32 = 0o777;
const OPEN: u32 = 0o644;
/// A turn takes a moment, unless who has it has been stopped: in steps of [`STEP`].
const PATIENCE: u32 = 1000;
const STEP: Duration = Duration::from_millis(5);

/// A folder of secrets that is open. To be opened before the sandbox's root is entered, from where it cannot be reached.
#[derive(Debug)]
pub struct Secrets {
    dir: OwnedFd,
    /// Where it lies.
    around: File,
}

impl Secrets {
    /// Opens the folder, which is made where it is missing.
    pub fn open(path: &Path) -> io::Result<Secrets> {
        let around = path.parent().unwrap_or(Path::new("/"));
        if !path.exists() {
            file::make_dir(path, PRIVATE_DIR).context(|| format!("make {}", path.display()))?;
        }
        let open = || Ok(Secrets { dir: open_dir(path)?, around: File::open(around)? });
        open().context(|| format!("open {}", path.display()))
    }

    /// Lets a user read what is there and what will come. Called by root of the sandbox that it runs in.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        let _turn = self.lock()?;
        let dir = self.look()?;
        if uid == 0 || is_open(&dir) {
            return Ok(());
        }
        if dir.uid() != 0 && dir.uid() != uid {
            return self.open_up();
        }
        let path = mount::fd_path(&self.dir);
        // Last of all the folder: who is killed before that begins again.
        for (file, metadata) in self.files()? {
            if metadata.uid() == 0 && metadata.mode() & 0o777 == PRIVATE {
                lchown(path.join(&file), Some(uid), Some(gid))?;
            }
        }
        chown(path, Some(uid), Some(gid))
    }

    /// Lets every user read them, whoever they are: an engine has ids of its own.
    pub fn share(&self) -> io::Result<()> {
        let _turn = self.lock()?;
        if is_open(&self.look()?) { Ok(()) } else { self.open_up() }
    }

    fn open_up(&self) -> io::Result<()> {
        let path = mount::fd_path(&self.dir);
        for (file, metadata) in self.files()? {
            if metadata.mode() & 0o777 == PRIVATE {
                // A daemon may have put something else in its place by now.
                let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let opened = File::options().read(true).custom_flags(flags).open(path.join(&file))?;
                opened.set_permissions(Permissions::from_mode(OPEN))?;
            }
        }
        fs::set_permissions(path, Permissions::from_mode(OPEN_DIR))
    }

    /// Names of what is there, sorted. Those that begin with a dot are half-made.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.files()?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    /// Puts a value there, in the place of one that is called so.
    pub fn put(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let _turn = self.lock()?;
        let dir = self.look()?;
        let mode = if is_open(&dir) { OPEN } else { PRIVATE };
        file::put(&mount::fd_path(&self.dir).join(name), PRIVATE, |file| {
            file.write_all(value)?;
            fchown(&*file, Some(dir.uid()), Some(dir.gid()))?;
            file.set_permissions(Permissions::from_mode(mode))
        })
    }

    /// Removes a value.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(mount::fd_path(&self.dir).join(name))
    }

    fn look(&self) -> io::Result<Metadata> {
        fs::metadata(mount::fd_path(&self.dir))
    }

    /// The values, without what else a daemon may have put there.
    fn files(&self) -> io::Result<Vec<(String, Metadata)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(mount::fd_path(&self.dir))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() && !name.starts_with('.') => files.push((name, metadata)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(files)
    }

    /// The turn to look and change, until it is dropped.
    fn lock(&self) -> io::Result<File> {
        let turn = self.around.try_clone()?;
        for _ in 0..PATIENCE {
            match turn.try_lock() {
                Ok(()) => return Ok(turn),
                Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps its secrets locked"))
    }
}

fn is_open(dir: &Metadata) -> bool {
    dir.mode() & 0o7 == OPEN_DIR & 0o7
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("alien-secrets-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }

    /// Owner and mode of a path.
    fn of(path: &Path) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.mode() & 0o777)
    }

    #[test]
    fn a_value_is_for_its_owner_alone_until_all_are_to_see_it() {
        let base = folder("shared");
        let dir = base.0.join("safe");
        let secrets = Secrets::open(&dir).unwrap();
        let us = of(&base.0).0;
        secrets.put("key", b"one").unwrap();
        secrets.put("key", b"two").unwrap();
        assert_eq!((of(&dir), of(&dir.join("key"))), ((us, 0o700), (us, 0o600)));
        assert_eq!(fs::read(dir.join("key")).unwrap(), b"two");
        // What a daemon may have put there: neither followed nor opened.
        let outside = base.0.join("outside");
        fs::write(&outside, "x").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("link")).unwrap();
        fs::create_dir(dir.join("below")).unwrap();
        secrets.share().unwrap();
        secrets.put("later", b"").unwrap();
        assert_eq!((of(&dir), of(&dir.join("key")), of(&dir.join("later"))), ((us, 0o777), (us, 0o644), (us, 0o644)));
        assert_eq!(of(&outside), (us, 0o600));
        assert_eq!(secrets.names().unwrap(), ["key", "later"]);
        secrets.remove("key").unwrap();
        assert_eq!(secrets.names().unwrap(), ["later"]);
        assert_eq!(secrets.remove("key").unwrap_err().kind(), io::ErrorKind::NotFound);
        let left: Vec<_> = fs::read_dir(&base.0).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn one_user_has_them_alone_and_a_second_one_shares_them() {
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let base = folder("given");
        let dir = base.0.join("safe");
        let secrets = Secrets::open(&dir).unwrap();
        secrets.put("key", b"x").unwrap();
        secrets.give_to(0, 0).unwrap();
        assert_eq!(of(&dir.join("key")), (0, 0o600));
        for _ in 0..2 {
            secrets.give_to(7, 8).unwrap();
            secrets.put("later", b"x").unwrap();
            secrets.give_to(0, 0).unwrap();
            let all = [of(&dir), of(&dir.join("key")), of(&dir.join("later"))];
            assert_eq!(all, [(7, 0o700), (7, 0o600), (7, 0o600)]);
        }
        secrets.give_to(9, 9).unwrap();
        secrets.put("last", b"x").unwrap();
        let modes = ["", "key", "later", "last"].map(|name| of(&dir.join(name)).1);
        assert_eq!(modes, [0o777, 0o644, 0o644, 0o644]);
        assert_eq!(fs::metadata(dir.join("last")).unwrap().gid(), 8);
    }
}
