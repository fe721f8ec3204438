//! How our containers are called and known again. Many state directories may use one engine, on this machine or others:
//! what belongs to which is told by labels, and never by a name.

use crate::error::Report;
use crate::local::layout::{Layout, make_dir, unusable};
use crate::model::names::fingerprint;
use crate::sys::process::random_name;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Which state directory it belongs to.
pub const STATE: &str = "alien.dev/state";
/// Which deployment.
pub const DEPLOYMENT: &str = "alien.dev/deployment";
/// Which daemon of that.
pub const DAEMON: &str = "alien.dev/daemon";
/// Which version of the daemon.
pub const VERSION: &str = "alien.dev/version";

/// The repository that images have in engines; the tag is the digest.
pub const IMAGES: &str = "localhost/alien";

/// What an image is called in an engine.
pub fn image(digest: &str) -> String {
    format!("{IMAGES}:{}", digest.trim_start_matches("sha256:"))
}

/// A daemon, as far as its containers' names go.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The state directory's own name; see [`identity`].
    pub state: &'a str,
    pub deployment: &'a str,
    pub id: &'a str,
}

impl Names<'_> {
    /// The container of a version.
    pub fn container(&self, version: &str) -> String {
        let Names { state, deployment, id } = self;
        let hash = fingerprint(format!("{state}\n{deployment}\n{id}\n{version}"), 12);
        format!("alien-{deployment}-{id}-{hash}")
    }

    /// The volume at a path of its image.
    pub fn volume(&self, target: &Path) -> String {
        let Names { state, deployment, id } = self;
        let hash = fingerprint(format!("{state}\n{deployment}\n{id}\n{}", target.display()), 12);
        format!("alien-{deployment}-{id}-volume-{hash}")
    }

    /// What a container or volume is known by.
    pub fn labels(&self, version: &str) -> HashMap<String, String> {
        let labels = [(STATE, self.state), (DEPLOYMENT, self.deployment), (DAEMON, self.id), (VERSION, version)];
        labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    /// Finds everything of the daemon.
    pub fn filters(&self) -> HashMap<String, Vec<String>> {
        filters(&[(STATE, self.state), (DEPLOYMENT, self.deployment), (DAEMON, self.id)])
    }
}

/// Finds what has all of these labels.
pub fn filters(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.iter().map(|(name, value)| format!("{name}={value}")).collect())])
}

/// The state directory's own name, made with its first use: a path may mean another folder on another machine.
pub fn identity(layout: &Layout) -> Result<String, Report> {
    let file = layout.engine().join("id");
    if let Some(there) = read(&file) {
        return Ok(there);
    }
    make_dir(&layout.engine())?;
    let make = || {
        let name = random_name()?;
        let staged = layout.engine().join(format!(".id-{name}"));
        File::create_new(&staged)?.write_all(name.as_bytes())?;
        // The first one to be there stays.
        let linked = fs::hard_link(&staged, &file);
        let _ = fs::remove_file(&staged);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => read(&file).ok_or_else(|| io::Error::other("it is empty")),
        }
    };
    make().map_err(|error| unusable(&file, &error))
}

/// The same, where it has one: without, it has no containers.
pub fn known_identity(layout: &Layout) -> Option<String> {
    read(&layout.engine().join("id"))
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().filter(|name| !name.is_empty())
}
