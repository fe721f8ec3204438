//! Where things are in a state directory.
//!
//! ```text
//! <state>/bin/<digest>/alien-supervisor   a helper: a package may be removed under it
//! <state>/bin/<digest>/release            the package's version that it came with
//! <state>/bin/current                     a link to the digest that the tree runs, or is to
//! <state>/store/                          images, shared by all deployments
//! <state>/deployments/<name>/             one deployment
//!     deployment.json                     its stack's id and the order of its resources
//!     lock                                held while it is being changed
//!     resources/<id>.json                 a resource that is not a daemon
//!     daemons/<id>/                       a daemon: see `supervisor`
//!     containers/<id>/                    a daemon that runs under a container engine: see `containers`
//! <state>/manager/                        the manager of commands: see `commands`
//! <state>/data/<name>/<id>/               what a linked resource stores; outlives the deployment
//! <state>/data/<name>/volumes/<id>/       a daemon's image volumes; outlive the deployment
//! <state>/engine/                         what is to be known of containers: see `containers`
//! <state>/scan.lock, scanner.sock, scanner.log
//! ```

use crate::error::Report;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A state directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The state directory at an absolute path; nothing is made yet.
    pub fn new(root: PathBuf) -> Self {
        Layout { root }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory, open to its owner only, where it is missing.
    pub fn make(&self) -> Result<(), Report> {
        make_dir(&self.root)
    }

    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Of the manager of commands; see `commands`.
    pub fn manager(&self) -> PathBuf {
        self.root.join("manager")
    }

    pub fn deployment(&self, name: &str) -> PathBuf {
        self.root.join("deployments").join(name)
    }

    pub fn daemons(&self, name: &str) -> PathBuf {
        self.deployment(name).join("daemons")
    }

    pub fn daemon(&self, name: &str, id: &str) -> PathBuf {
        self.daemons(name).join(id)
    }

    pub fn containers(&self, name: &str) -> PathBuf {
        self.deployment(name).join("containers")
    }

    pub fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    pub fn resources(&self, name: &str) -> PathBuf {
        self.deployment(name).join("resources")
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join("data").join(name)
    }
}

/// Makes a folder and its parents, open to its owner only.
pub fn make_dir(dir: &Path) -> Result<(), Report> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| unusable(dir, &error))
}

/// The state directory does not take what has to be written.
pub fn unusable(path: &Path, error: &io::Error) -> Report {
    let report = Report::new("STATE_DIR_UNUSABLE", format!("cannot write {}: {error}", path.display()))
        .with("path", path.display().to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            report.hint("free space there, or choose another state directory with --state-dir or ALIEN_STATE_DIR")
        }
        _ => report.hint("choose a state directory that you may write with --state-dir or ALIEN_STATE_DIR"),
    }
}
