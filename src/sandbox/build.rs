//! Building a sandbox: namespaces, the image's root, and everything mounted into it.

use super::report::{tell, verdict};
use super::secrets::Secrets;
use super::{Failure, Mount, Namespaces, Program, Sandbox, Top, copy, dev, exec, proc};
use crate::sys::poll::PollSet;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{Context, file, mount, path, signal, socket};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A sandbox that is being built. Its socket is readable once [`Build::finish`] has something to take. One that is dropped
/// instead has left no mount when that returns: two users of one writable top disturb each other.
pub struct Build {
    /// The child that builds.
    pub pid: Pid,
    /// The same child, whoever has reaped it meanwhile. `None` once its work was taken.
    handle: Option<OwnedFd>,
    socket: OwnedFd,
    /// What the child said where it could not even make its namespaces.
    early: Option<Failure>,
}

/// Begins to build `sandbox` in a child, and to check that `program` could run in it.
pub fn start(sandbox: &Sandbox, program: &Program) -> io::Result<Build> {
    write_files(sandbox)?;
    let (ours, theirs) = socket::message_pair()?;
    match process::fork()? {
        Fork::Child => {
            drop(ours);
            signal::reset_all();
            let _ = process::die_with_parent(libc::SIGKILL);
            let result = build(sandbox, program, &theirs);
            tell(&theirs, result);
            // The parent answers by hanging up, when it holds the namespaces.
            let _ = socket::receive_wait(&theirs, &mut [0; 1]);
            process::exit_now(0)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let handle = Some(process::pidfd_open(pid)?);
            let mut build = Build { pid, handle, socket: ours, early: None };
            // The child asks for its ids as soon as it is in its user namespace.
            build.early = verdict(&build.socket).err();
            if build.early.is_none() {
                sandbox.ids.apply_to(pid)?;
                socket::send(&build.socket, b"m")?;
            }
            Ok(build)
        }
    }
}

impl Build {
    /// What to wait on.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The built sandbox, or why it could not be built. Waits for the child's word where it has not come yet.
    pub fn finish(mut self) -> Result<Namespaces, Failure> {
        self.early.take().map_or(Ok(()), Err)?;
        verdict(&self.socket)?;
        let namespaces = Namespaces::of(self.pid)?;
        self.handle = None;
        Ok(namespaces)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let Some(handle) = &self.handle else { return };
        let _ = process::pidfd_kill(handle, libc::SIGKILL);
        let mut ended = PollSet::default();
        let key = ended.add(handle);
        while ended.wait(None).is_ok() && !ended.ready(key) {}
    }
}

/// Checks, in a child inside `namespaces`, that `program` could run there.
pub fn check(namespaces: &Namespaces, sandbox: &Sandbox, program: &Program) -> Result<(), Failure> {
    let (ours, theirs) = socket::message_pair()?;
    match process::fork()? {
        Fork::Child => {
            let result = namespaces.enter().map_err(Failure::from).and_then(|()| exec::prepare(program, &sandbox.ids));
            tell(&theirs, result.map(drop));
            process::exit_now(0)
        }
        Fork::Parent(_) => {
            drop(theirs);
            verdict(&ours)
        }
    }
}

fn build(sandbox: &Sandbox, program: &Program, socket: &OwnedFd) -> Result<(), Failure> {
    // Folders made inside are for the image's user too, whoever that is.
    process::set_umask(0o022);
    process::unshare(NAMESPACES).context(|| "make namespaces".to_owned())?;
    tell(socket, Ok(()));
    if !matches!(socket::receive_wait(socket, &mut [0; 1]), socket::Received::Message(..)) {
        return Err(Failure::new("SANDBOX_FAILED", "the new user namespace was given no ids"));
    }
    let root = mount_root(sandbox)?;
    mount_system(&root).context(|| "mount the system's folders".to_owned())?;
    let mut secrets = Vec::new();
    for mount in &sandbox.mounts {
        let mut add = || {
            // Not to be reached any more from within.
            secrets.extend(mount.secrets.then(|| Secrets::open(&mount.source)).transpose()?);
            add(&root, mount)
        };
        add().context(|| format!("mount {} in the sandbox", mount.target.display()))?;
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let source = Top(&sandbox.top).files().join(name);
        if source.exists() {
            let target = path::make_file_in_root(&path::open_dir(&root)?, &Path::new("/etc").join(name))?;
            mount::bind(&source, &mount::real_path(&target)?).context(|| format!("mount /etc/{name}"))?;
        }
    }
    set_hostname(&sandbox.hostname)?;
    mount::pivot_to(&root).context(|| "enter the image's root".to_owned())?;
    let (uid, gid) = exec::prepare(program, &sandbox.ids)?.user();
    let give = |secrets: &Secrets| secrets.give_to(uid, gid);
    secrets.iter().try_for_each(give).context(|| format!("give the secrets to user {uid}"))?;
    Ok(())
}

/// Mounts the layers with their writable top, or copies them, and gives the root's path.
fn mount_root(sandbox: &Sandbox) -> io::Result<PathBuf> {
    mount::make_private().context(|| "make mounts private".to_owned())?;
    let top = Top(&sandbox.top);
    if !sandbox.overlay {
        return copied_root(&top, &sandbox.layers);
    }
    let root = top.root();
    let is_new = !top.upper().exists();
    for dir in [top.upper(), top.work(), root.clone()] {
        fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
    }
    if let (true, Some(layer)) = (is_new, sandbox.layers.last()) {
        // The root folder that the daemon sees is the top's own: it gets the mode and the owner of the image's.
        copy::like(&top.upper(), &fs::metadata(layer)?)?;
    }
    let open = |dir: &PathBuf| path::open_dir(dir).context(|| format!("open the layer {}", dir.display()));
    let mut layers = sandbox.layers.iter().rev().map(open).collect::<io::Result<Vec<_>>>()?;
    if layers.is_empty() {
        // An image may have no layer at all (`FROM scratch` with nothing added); overlayfs wants one.
        let empty = sandbox.top.join("empty");
        fs::create_dir_all(&empty)?;
        layers.push(path::open_dir(&empty)?);
    }
    // Paths by descriptor are short and free of the characters that overlayfs would take for separators: the
    // options must fit one page.
    let name = |fd: &OwnedFd| mount::fd_path(fd).display().to_string();
    let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
    let (upper, work) = (path::open_dir(&top.upper())?, path::open_dir(&top.work())?);
    let data = format!("lowerdir={lower},upperdir={},workdir={},userxattr", name(&upper), name(&work));
    mount::mount("overlay", &root, 0, &data).context(|| format!("mount overlay on {}", root.display()))?;
    Ok(root)
}

fn copied_root(top: &Top<'_>, layers: &[PathBuf]) -> io::Result<PathBuf> {
    let root = top.root();
    if !root.exists() {
        let partial = top.0.join("partial");
        copy::tree(&partial)?;
        fs::create_dir_all(&partial)?;
        layers.iter().try_for_each(|layer| copy::layer(layer, &partial))?;
        fs::rename(&partial, &root)?;
    }
    // pivot_root(2) wants a mount point.
    mount::bind(&root, &root)?;
    Ok(root)
}

/// `/dev`, `/proc`, `/sys` and `/tmp`.
fn mount_system(root: &Path) -> io::Result<()> {
    let at = |path: &str| -> io::Result<PathBuf> {
        mount::real_path(&path::make_dir_in_root(&path::open_dir(root)?, Path::new(path))?)
    };
    dev::populate(&at("/dev")?)?;
    // Stays until the first start only: see `proc::renew` for why one must be there.
    mount::bind(Path::new("/proc"), &at("/proc")?)?;
    let sys = at("/sys")?;
    // A sysfs of its own needs a network namespace of its own; the daemon has the host's, so it sees the host's.
    mount::bind(Path::new("/sys"), &sys)?;
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    mount::set_attributes(&sys, attributes, true)?;
    for hidden in ["firmware", "fs/cgroup", "kernel/security", "kernel/debug", "kernel/tracing"] {
        proc::mask(&sys.join(hidden))?;
    }
    mount::mount("tmpfs", &at("/tmp")?, libc::MS_NOSUID | libc::MS_NODEV, "mode=1777")
}

fn add(root: &Path, mount: &Mount) -> io::Result<()> {
    let root = path::open_dir(root)?;
    let target = mount::real_path(&path::make_dir_in_root(&root, &mount.target)?)?;
    if !mount.source.exists() && mount.filled_from_image {
        // One daemon's own: what is left of a copy that was cut goes with the next.
        let partial = mount.source.with_extension("partial");
        copy::tree(&partial)?;
        fs::create_dir_all(&partial)?;
        copy::layer(&target, &partial)?;
        file::put_dir(&partial, &mount.source)?;
    } else if !mount.source.exists() {
        // Several may be making it at once; of one that is killed over it, a later deploy sweeps what is left. Whichever user
        // the image runs as may use it; nobody else gets past the state directory.
        file::make_dir(&mount.source, 0o777)?;
    }
    mount::bind(&mount.source, &target)?;
    let read_only = if mount.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    mount::set_attributes(&target, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only, true)
}

fn set_hostname(name: &str) -> io::Result<()> {
    let name = &name.as_bytes()[..name.len().min(64)];
    crate::sys::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
        .map(drop)
        .context(|| "set the host name".to_owned())
}

/// The host's resolver and names, for the daemon to see: it has the host's network. Copied, so that a link in the
/// host's `/etc` leads nowhere it should not.
fn write_files(sandbox: &Sandbox) -> io::Result<()> {
    let files = Top(&sandbox.top).files();
    fs::create_dir_all(&files)?;
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1\tlocalhost\n".to_owned());
    let name = &sandbox.hostname;
    let write = |file: &str, contents: &[u8]| {
        fs::write(files.join(file), contents)?;
        // For every user of the image.
        fs::set_permissions(files.join(file), fs::Permissions::from_mode(0o644))
    };
    write("hosts", format!("{}\n127.0.1.1\t{name}\n", hosts.trim_end()).as_bytes())?;
    write("hostname", format!("{name}\n").as_bytes())?;
    match fs::read("/etc/resolv.conf") {
        Ok(resolver) => write("resolv.conf", &resolver),
        Err(_) => Ok(()),
    }
}
