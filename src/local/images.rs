//! The images of a state directory: which daemons use them, and taking away what none does.

use super::deployment::entry_names;
use super::helper::Helper;
use super::layout::{Layout, unusable};
use crate::engine::images::{ImageInfo, ImageList, ImageUse, PruneReport};
use crate::error::Report;
use crate::image::{InUse, Store, bytes_below};
use crate::sandbox::ids::Ids;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a version of a daemon needs, as its document says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    deployment: String,
    daemon: String,
    image: String,
    digest: String,
    layers: Vec<PathBuf>,
    top: PathBuf,
}

/// The part of a document that matters here; a later version's may have more.
#[derive(Deserialize)]
struct Document {
    run: Run,
}

#[derive(Deserialize)]
struct Run {
    image: String,
    digest: String,
    sandbox: Sandbox,
}

#[derive(Deserialize)]
struct Sandbox {
    layers: Vec<PathBuf>,
    top: PathBuf,
}

/// What there is.
///
/// # Errors
/// `STATE_DIR_UNUSABLE`, `STORE_FAILED`.
pub fn list(layout: &Layout, store: &Store) -> Result<ImageList, Report> {
    let uses = uses(layout)?;
    let mut images = Vec::new();
    for kept in store.images()? {
        let of_it: Vec<&Use> = uses.iter().filter(|used| used.digest == kept.digest).collect();
        let mut references: BTreeSet<String> = kept.references.into_iter().collect();
        references.extend(of_it.iter().map(|used| used.image.clone()));
        let used_by: BTreeSet<ImageUse> = of_it
            .iter()
            .map(|used| ImageUse { deployment: used.deployment.clone(), daemon: used.daemon.clone() })
            .collect();
        images.push(ImageInfo {
            references: references.into_iter().collect(),
            digest: kept.digest,
            bytes: kept.bytes,
            used_by: used_by.into_iter().collect(),
        });
    }
    images.sort_by(|a, b| (&a.references, &a.digest).cmp(&(&b.references, &b.digest)));
    Ok(ImageList { images, total_bytes: store.bytes()? })
}

/// Takes away what nobody uses; see [`Store::prune`]. Blocking.
///
/// # Errors
/// `STATE_DIR_UNUSABLE` where it cannot be told what is in use: nothing is removed then. `STORE_FAILED`.
pub fn prune(layout: &Layout, helper: &Helper, store: &Store, ids: &Ids, dry_run: bool) -> Result<PruneReport, Report> {
    let in_use = || {
        let uses = uses(layout)?;
        let digests = uses.iter().map(|used| used.digest.clone()).collect();
        let layers = uses.iter().flat_map(|used| &used.layers).map(|layer| name(layer)).collect();
        Ok::<_, Report>(InUse { layers, digests })
    };
    let pruned = store.prune(dry_run, in_use, |tree| helper.remove(tree, ids))?;
    let mut report = PruneReport {
        dry_run,
        images: pruned
            .images
            .into_iter()
            .map(|kept| ImageInfo {
                references: kept.references,
                digest: kept.digest,
                bytes: kept.bytes,
                used_by: vec![],
            })
            .collect(),
        layers: pruned.layers,
        tops: 0,
        helpers: 0,
        freed_bytes: pruned.bytes,
    };
    let mut all_quiet = true;
    for deployment in folders(&layout.root().join("deployments"))? {
        // A deployment that is being changed is left alone; so is one that just comes or goes.
        let Some(_lock) = locked(&deployment.join("lock"))? else {
            all_quiet = false;
            continue;
        };
        for top in unused_tops(layout, &name(&deployment))? {
            report.tops += 1;
            report.freed_bytes += bytes_below(&top);
            if !dry_run {
                helper.remove(&top, ids)?;
            }
        }
    }
    // A deploy of another version of the package may be about to start its helper.
    if all_quiet {
        for old in old_helpers(layout, helper)? {
            report.helpers += 1;
            report.freed_bytes += bytes_below(&old);
            if !dry_run {
                fs::remove_dir_all(&old).map_err(|error| unusable(&old, &error))?;
            }
        }
    }
    Ok(report)
}

/// What all daemons use: of the version that runs, the one that is to come, and the one that may come back.
///
/// Supervisors move these documents about meanwhile, so it is looked at until two looks see the same.
fn uses(layout: &Layout) -> Result<BTreeSet<Use>, Report> {
    let mut last = look(layout)?;
    loop {
        let now = look(layout)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

fn look(layout: &Layout) -> Result<BTreeSet<Use>, Report> {
    let mut found = BTreeSet::new();
    for deployment in folders(&layout.root().join("deployments"))? {
        for daemon in folders(&deployment.join("daemons"))? {
            for file in entry_names(&daemon).into_iter().filter(|name| name.ends_with(".json")) {
                let path = daemon.join(file);
                let bytes = match fs::read(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    read => read.map_err(|error| unreadable(&path, &error.to_string()))?,
                };
                let value: serde_json::Value =
                    serde_json::from_slice(&bytes).map_err(|error| unreadable(&path, &error.to_string()))?;
                // Other documents name no version.
                if value.get("run").is_none() {
                    continue;
                }
                let Document { run } =
                    serde_json::from_value(value).map_err(|error| unreadable(&path, &error.to_string()))?;
                found.insert(Use {
                    deployment: name(&deployment),
                    daemon: name(&daemon),
                    image: run.image,
                    digest: run.digest,
                    layers: run.sandbox.layers,
                    top: run.sandbox.top,
                });
            }
        }
    }
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(path: &Path, why: &str) -> Report {
    let message = format!("it cannot be told what {} uses: {why}", path.display());
    Report::new("STATE_DIR_UNUSABLE", message)
        .with("path", path.display().to_string())
        .hint("deploy or destroy the deployment that it belongs to, then prune again; nothing was removed")
}

/// The folders in one, also those that are half made or half removed.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, Report> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| unusable(dir, &error))?,
    };
    let paths = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(paths.map(|entry| entry.path()).collect())
}

/// The lock of a deployment, where nobody else has it.
fn locked(path: &Path) -> Result<Option<File>, Report> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unusable(path, &error))?,
    };
    Ok(file.try_lock().is_ok().then_some(file))
}

/// Writable tops that no version of their daemon uses any more. To be called with the deployment's lock held.
fn unused_tops(layout: &Layout, deployment: &str) -> Result<Vec<PathBuf>, Report> {
    let used: HashSet<PathBuf> = uses(layout)?.into_iter().map(|used| used.top).collect();
    let mut unused = Vec::new();
    for daemon in folders(&layout.daemons(deployment))? {
        let tops = folders(&daemon.join("tops"))?;
        unused.extend(tops.into_iter().filter(|top| !used.contains(top)));
    }
    Ok(unused)
}

/// Programs of other versions of the package that no process runs, and that are no daemon's image.
fn old_helpers(layout: &Layout, helper: &Helper) -> Result<Vec<PathBuf>, Report> {
    let running: HashSet<PathBuf> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| fs::read_link(process.path().join("exe")).ok()?.parent().map(Path::to_owned))
        .collect();
    let images: Vec<PathBuf> = uses(layout)?.into_iter().flat_map(|used| used.layers).collect();
    let mut old = folders(&layout.bin())?;
    old.retain(|dir| {
        !running.contains(dir) && !helper.is_in(dir) && !images.iter().any(|layer| layer.starts_with(dir))
    });
    Ok(old)
}
