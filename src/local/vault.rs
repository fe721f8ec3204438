//! The values of a vault: a file each, in the folder that linked daemons see; see `sandbox::secrets` for who may read them.

use super::deployment;
use super::helper::Helper;
use super::layout::{Layout, make_dir, unusable};
use crate::engine::vault::Change;
use crate::error::Report;
use crate::model::ResourceType;
use crate::sandbox::ids::Ids;
use crate::sandbox::secrets::Secrets;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether its folder belongs to an id that is this account's only in a user namespace.
pub fn is_foreign(layout: &Layout, name: &str, vault: &str) -> bool {
    let us = unsafe { libc::geteuid() };
    us != 0 && fs::metadata(layout.data(name).join(vault)).is_ok_and(|dir| dir.uid() != us)
}

/// Makes the change, and gives the names of the values that there are then. `helper` is needed where [`is_foreign`] says so.
/// Blocking.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` where the deployment is there and has no such vault, `VAULT_VALUE_NOT_FOUND` where nothing is to be
/// removed.
pub fn change(
    layout: &Layout,
    (name, vault): (&str, &str),
    change: &Change,
    helper: Option<(&Helper, &Ids)>,
) -> Result<Vec<String>, Report> {
    check(layout, name, vault)?;
    let dir = layout.data(name).join(vault);
    let values = Values { dir: &dir, foreign: helper };
    match change {
        Change::Set { key, value } => values.put(key, value)?,
        Change::Remove { key } if values.names()?.contains(key) => values.remove(key)?,
        Change::Remove { key } => {
            let message = format!("there is no value {key:?} in vault {vault:?}");
            return Err(Report::new("VAULT_VALUE_NOT_FOUND", message).status(404));
        }
        Change::None => {}
    }
    values.names()
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

/// The folder's values, also where it belongs to one of the account's subordinate ids: only the helper gets at it then.
struct Values<'a> {
    dir: &'a Path,
    foreign: Option<(&'a Helper, &'a Ids)>,
}

impl Values<'_> {
    fn names(&self) -> Result<Vec<String>, Report> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        match self.foreign {
            Some((helper, ids)) => {
                Ok(helper.secrets("names", self.dir, ids, None, b"")?.lines().map(str::to_owned).collect())
            }
            None => self.here(Secrets::names),
        }
    }

    fn put(&self, key: &str, value: &str) -> Result<(), Report> {
        match self.foreign {
            Some((helper, ids)) => helper.secrets("put", self.dir, ids, Some(key), value.as_bytes()).map(drop),
            None => {
                make_dir(self.dir.parent().unwrap_or(self.dir))?;
                self.here(|secrets| secrets.put(key, value.as_bytes()))
            }
        }
    }

    fn remove(&self, key: &str) -> Result<(), Report> {
        match self.foreign {
            Some((helper, ids)) => helper.secrets("remove", self.dir, ids, Some(key), b"").map(drop),
            None => self.here(|secrets| secrets.remove(key)),
        }
    }

    fn here<T>(&self, change: impl FnOnce(&Secrets) -> io::Result<T>) -> Result<T, Report> {
        Secrets::open(self.dir).and_then(|secrets| change(&secrets)).map_err(|error| unusable(self.dir, &error))
    }
}
