//! A deployment's own files: what it is of, who is changing it, and its resources that are not daemons.

use super::layout::{Layout, make_dir, unusable};
use super::version::Declared;
use crate::engine::event::{Event, Events};
use crate::engine::platform::Lock;
use crate::error::Report;
use crate::model::Stack;
use crate::supervisor::spec::{self, NEXT_PREFIX};
use crate::sys::file::{ABANDONED, sweep as sweep_files};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// `deployment.json`: what cannot be read off the resources themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub stack_id: String,
    /// Ids in the order of the stack.
    pub order: Vec<String>,
    /// The address of the container engine that its daemons run under; none where they are processes of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

/// A resource that only stores: `resources/<id>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    #[serde(rename = "type")]
    pub kind: String,
    pub declared: Declared,
}

fn meta_path(layout: &Layout, name: &str) -> PathBuf {
    layout.deployment(name).join("deployment.json")
}

/// Records what the deployment is of.
pub fn begin(layout: &Layout, name: &str, stack: &Stack, engine: Option<&str>) -> Result<(), Report> {
    make_dir(&match engine {
        None => layout.daemons(name),
        Some(_) => layout.containers(name),
    })?;
    make_dir(&layout.resources(name))?;
    make_dir(&layout.data(name))?;
    sweep(layout, name);
    let path = meta_path(layout, name);
    let order = stack.resources.keys().map(str::to_owned).collect();
    let meta = Meta { stack_id: stack.id.clone(), order, engine: engine.map(str::to_owned) };
    spec::write(&path, &meta).map_err(|error| unusable(&path, &error))
}

/// What was recorded; `None` where there is no such deployment.
pub fn meta(layout: &Layout, name: &str) -> Option<Meta> {
    spec::read(&meta_path(layout, name)).ok()
}

/// The deployments of a state directory, by name.
pub fn names(layout: &Layout) -> Vec<String> {
    let mut names = entry_names(&layout.root().join("deployments"));
    names.retain(|name| meta(layout, name).is_some());
    names
}

/// Records a resource that only stores.
pub fn store(layout: &Layout, name: &str, id: &str, stored: &Stored) -> Result<(), Report> {
    let path = layout.resources(name).join(format!("{id}.json"));
    spec::write(&path, stored).map_err(|error| unusable(&path, &error))
}

/// Forgets a resource that only stores.
pub fn unstore(layout: &Layout, name: &str, id: &str) -> Result<(), Report> {
    let path = layout.resources(name).join(format!("{id}.json"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, &error)),
        _ => Ok(()),
    }
}

/// Forgets a deployment of which nothing is left.
pub fn forget(layout: &Layout, name: &str) -> Result<(), Report> {
    // The folder comes last and goes in one step: its lock goes with it, and who waits for that begins at once.
    let dir = layout.deployment(name);
    let random = crate::sys::process::random_name().map_err(|error| unusable(&dir, &error))?;
    let aside = dir.with_file_name(format!(".{name}-{random}"));
    // Another call may be quicker to remove it: see `sweep`.
    fs::rename(&dir, &aside).and_then(|()| fs::remove_dir_all(&aside)).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(unusable(&dir, &error)),
    })
}

/// The resources that only store.
pub fn stored(layout: &Layout, name: &str) -> Vec<(String, Stored)> {
    let dir = layout.resources(name);
    let ids = entry_names(&dir).into_iter().filter_map(|file| Some(file.strip_suffix(".json")?.to_owned()));
    ids.filter_map(|id| Some((id.clone(), spec::read(&dir.join(format!("{id}.json"))).ok()?))).collect()
}

/// Names in a folder, sorted; none where there is no folder. Those that begin with a dot are half-made.
pub fn entry_names(dir: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

/// Removes what is half-made, or half-removed. To be called by who holds the lock: it is nobody's any more.
fn sweep(layout: &Layout, name: &str) {
    let at_once = Duration::ZERO;
    // Whichever deployment it was of, which may never be deployed again: whoever is about to remove it as well wants it gone.
    sweep_files(&layout.root().join("deployments"), &["."], at_once);
    let daemons = layout.daemons(name);
    for dir in [&layout.deployment(name), &layout.resources(name), &daemons, &layout.containers(name)] {
        sweep_files(dir, &["."], at_once);
    }
    // Supervisors make what is linked to when they start a daemon, and need no lock for that.
    sweep_files(&layout.data(name), &["."], ABANDONED);
    for id in entry_names(&daemons) {
        // A version that nobody waits for any more: a supervisor that has taken it up has renamed it.
        sweep_files(&daemons.join(id), &[NEXT_PREFIX, ".next."], at_once);
    }
}

/// Keeps others from changing the deployment until it is dropped.
pub struct Guard {
    held: Option<Held>,
    calls: Option<TaskTracker>,
}

impl Guard {
    /// Holds it, once the holder lets go, until these have come to their end too: what somebody else was asked to do goes on
    /// where the call that asked is called off, and whoever is next is to find it done.
    pub fn until(mut self, calls: &TaskTracker) -> Guard {
        self.calls = Some(calls.clone());
        self
    }
}

impl Lock for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(calls) = self.calls.take().filter(|calls| !calls.is_empty()) else { return };
        let held = self.held.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                calls.close();
                calls.wait().await;
                drop(held);
            });
        }
    }
}

struct Held {
    dir: PathBuf,
    file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A deploy that failed before it began anything leaves nothing behind: the folder goes where it holds the lock
        // alone. We still have that, unless destroy has removed it; who waits for it sees that its file is gone, and
        // makes it anew.
        let path = self.dir.join(LOCK);
        if is_at(&self.file, &path) && entry_names(&self.dir) == [LOCK] {
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// The lock's file.
const LOCK: &str = "lock";

/// Takes the deployment's lock, waiting for whoever has it.
///
/// It is a flock(2): two deploys of one process keep each other out too. Its file may be removed by who holds it, so
/// it counts only while it is still the one that the path means.
pub async fn lock(layout: &Layout, name: &str, events: &Events) -> Result<Guard, Report> {
    let dir = layout.deployment(name);
    make_dir(&dir)?;
    let path = dir.join(LOCK);
    let mut told = false;
    loop {
        let mut file = match File::options().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            // Whoever had the lock has removed the deployment, folder and all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dir(&dir)?;
                continue;
            }
            Err(error) => return Err(unusable(&path, &error)),
        };
        match file.try_lock() {
            Ok(()) => {
                // destroy removes the folder, lock and all: what was locked must still be what the path means.
                if !is_at(&file, &path) {
                    make_dir(&dir)?;
                    continue;
                }
                sweep(layout, name);
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                return Ok(Guard { held: Some(Held { dir, file }), calls: None });
            }
            Err(fs::TryLockError::WouldBlock) if !told => {
                told = true;
                let mut pid = String::new();
                let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut pid));
                // Whoever has just taken it may not have written it down yet.
                let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
                let message = format!("another deploy of {name:?} is under way{who}; waiting for it");
                events.tell(Event::Waiting { message });
            }
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(fs::TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
    }
}

fn is_at(file: &File, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}
