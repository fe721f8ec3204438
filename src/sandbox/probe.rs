//! What this machine allows, found out by doing it: a sandbox of one empty file is built and thrown away.

use super::ids::Ids;
use super::report::{tell, verdict};
use super::{Failure, Program, Sandbox, build, copy, proc};
use crate::sys::process::{self, Fork};
use crate::sys::{Context, socket};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What [`run`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Why no sandbox can be made at all, where that is so.
    pub sandbox: Option<Failure>,
    /// Why layers cannot be mounted and are copied instead, where that is so.
    pub overlay: Option<Failure>,
}

/// Tries to make a sandbox in `scratch`, an empty folder on the file system where the real ones will be.
pub fn run(scratch: &Path, ids: &Ids) -> Capability {
    let overlay = attempt(&scratch.join("overlay"), ids, true).err();
    // What fails with copied layers too has nothing to do with overlayfs.
    let sandbox = overlay.as_ref().and_then(|_| attempt(&scratch.join("copy"), ids, false).err());
    Capability { sandbox, overlay }
}

fn attempt(scratch: &Path, ids: &Ids, overlay: bool) -> Result<(), Failure> {
    let layer = scratch.join("layer");
    fs::create_dir_all(&layer)?;
    let program = layer.join("program");
    fs::write(&program, "")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let sandbox = Sandbox {
        layers: vec![layer],
        top: scratch.join("top"),
        overlay,
        ids: ids.clone(),
        hostname: "probe".to_owned(),
        mounts: Vec::new(),
    };
    let program = Program { argv: vec!["/program".to_owned()], env: Vec::new(), cwd: "/".into(), user: String::new() };
    let build = build::start(&sandbox, &program).map_err(Failure::from).map_err(refused)?;
    let builder = build.pid;
    let result = build.finish().map_err(refused).and_then(|namespaces| {
        let (ours, theirs) = socket::message_pair()?;
        let Fork::Parent(child) = process::fork()? else {
            let inside = namespaces.enter().context(|| "enter the sandbox".to_owned());
            match inside.and_then(|()| process::clone(libc::CLONE_NEWPID)) {
                Ok(Fork::Child) => tell(&theirs, proc::renew().map_err(Failure::from)),
                Ok(Fork::Parent(init)) => drop(process::wait(init)),
                Err(error) => tell(&theirs, Err(error.into())),
            }
            process::exit_now(0)
        };
        drop(theirs);
        let said = verdict(&ours);
        process::wait(child)?;
        said
    });
    process::wait(builder)?;
    copy::tree(scratch)?;
    result
}

/// The refusals that people meet, with what helps.
fn refused(failure: Failure) -> Failure {
    let failure =
        Failure::new("SANDBOX_REFUSED", format!("this machine refuses to make a sandbox: {}", failure.message));
    let switched_on = |path: &str| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0");
    failure.hint(if switched_on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        "AppArmor restricts user namespaces here: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or deploy as root"
    } else {
        "user namespaces are switched off, or a container's seccomp profile forbids them: set sysctl user.max_user_namespaces (and kernel.unprivileged_userns_clone=1), or run the container with --security-opt seccomp=unconfined"
    })
}
