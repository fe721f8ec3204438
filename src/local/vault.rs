//! The values of a vault: a file each, in the folder that linked daemons see.
//!
//! Every user of an image may read them, whichever it runs as; on the host nobody gets past the state directory, which is
//! its owner's alone.

use super::deployment;
use super::layout::{Layout, make_dir, unusable};
use crate::engine::vault::Change;
use crate::error::Report;
use crate::model::ResourceType;
use crate::sys::file;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes the change, and gives the names of the values that there are then.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` where the deployment is there and has no such vault, `VAULT_VALUE_NOT_FOUND` where nothing is to be
/// removed.
pub fn change(layout: &Layout, name: &str, vault: &str, change: &Change) -> Result<Vec<String>, Report> {
    check(layout, name, vault)?;
    let dir = layout.data(name).join(vault);
    match change {
        Change::Set { key, value } => {
            make(layout, name, &dir)?;
            let path = dir.join(key);
            file::put(&path, 0o644, |file| file.write_all(value.as_bytes()))
                .map_err(|error| unusable(&path, &error))?;
        }
        Change::Remove { key } => remove(&dir.join(key), vault, key)?,
        Change::None => {}
    }
    Ok(deployment::entry_names(&dir))
}

/// Before a deployment is there, its vaults may be filled; one that is there says what it has.
fn check(layout: &Layout, name: &str, vault: &str) -> Result<(), Report> {
    let is_vault = |kind: &str| kind == ResourceType::Vault.as_str();
    if deployment::meta(layout, name).is_none() {
        return Ok(());
    }
    let vaults: Vec<String> = deployment::stored(layout, name)
        .into_iter()
        .filter_map(|(id, stored)| is_vault(&stored.kind).then_some(id))
        .collect();
    if vaults.iter().any(|id| id == vault) {
        return Ok(());
    }
    let known = if vaults.is_empty() { "it has none".to_owned() } else { format!("there is: {}", vaults.join(", ")) };
    Err(Report::new("RESOURCE_NOT_FOUND", format!("there is no vault {vault:?} in deployment {name:?}; {known}"))
        .status(404)
        .with("deployment", name)
        .with("vault", vault)
        .hint("add `new Vault(ID)` to the stack, link it to a daemon and deploy"))
}

/// As the first daemon that is linked to it would: whichever user an image runs as may use it.
fn make(layout: &Layout, name: &str, dir: &Path) -> Result<(), Report> {
    if dir.exists() {
        return Ok(());
    }
    make_dir(&layout.data(name))?;
    let random = crate::sys::process::random_name().map_err(|error| unusable(dir, &error))?;
    let staged = layout.data(name).join(format!(".{random}"));
    make_dir(&staged)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o777))
        .and_then(|()| file::put_dir(&staged, dir))
        .map_err(|error| unusable(dir, &error))
}

fn remove(path: &Path, vault: &str, key: &str) -> Result<(), Report> {
    fs::remove_file(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Report::new("VAULT_VALUE_NOT_FOUND", format!("there is no value {key:?} in vault {vault:?}")).status(404)
        }
        _ => unusable(path, &error),
    })
}
