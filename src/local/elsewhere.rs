//! Commands on this machine from a manager that runs elsewhere: nothing is started, tokens are had there and kept here.
//!
//! ```text
//! <state>/manager/elsewhere/D/HASH/ID/   what daemon ID of deployment D sees of it: its token, and the certificates that the
//!                                        manager's own is signed with; HASH tells managers apart
//! <state>/manager/client.json            for callers: {external: {D: {url, deploymentId, token, ca?, identity}}} besides the rest
//! ```

use super::commands::{Access, CA, Callers, Commands, DEPLOYMENT, Elsewhere};
use super::deployment::{self, entry_names};
use super::layout::{make_dir, unusable};
use crate::engine::event::Events;
use crate::engine::manager::{Administrator, External, Grant};
use crate::error::Report;
use crate::model::names::fingerprint;
use crate::sys::file::put;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

impl Commands<'_> {
    fn elsewhere(&self, deployment: &str) -> PathBuf {
        self.layout.manager().join("elsewhere").join(deployment)
    }

    fn elsewhere_of(&self, manager: &External, deployment: &str, id: &str) -> PathBuf {
        self.elsewhere(deployment).join(fingerprint(manager.identity(deployment), 8)).join(id)
    }

    /// Has the tokens made that daemons and callers of the deployment lack, before anything of it is changed.
    ///
    /// # Errors
    /// `MANAGER_REFUSED`, `MANAGER_UNREACHABLE`.
    pub async fn ensure_elsewhere(
        &self,
        manager: &External,
        deployment: &str,
        ids: &[&str],
        events: &Events,
    ) -> Result<(), Report> {
        // What callers read is one file for all deployments.
        let _lock = deployment::lock(self.layout, DEPLOYMENT, events).await?;
        let (called, identity) = (manager.deployment(deployment), manager.identity(deployment));
        let mut callers = self.callers();
        let has_callers = callers.external.get(deployment).is_some_and(|there| there.identity == identity);
        let file = |id: &str| self.elsewhere_of(manager, deployment, id).join("token");
        let lacking: Vec<&&str> = ids.iter().filter(|id| !file(id).exists()).collect();
        if has_callers && lacking.is_empty() {
            return Ok(());
        }
        let administrator = Administrator::of(manager)?;
        for id in lacking {
            let token = administrator.grant(called, Grant::Receive(id)).await?;
            let root = self.layout.manager();
            if let Some(ca) = &manager.ca {
                write_shown(&root, &file(id).with_file_name(CA), ca)?;
            }
            // The last: without it, all is made anew.
            write_shown(&root, &file(id), &token)?;
        }
        if has_callers {
            return Ok(());
        }
        let token = administrator.grant(called, Grant::Invoke).await?;
        let (url, ca) = (manager.url.clone(), manager.ca.clone());
        let there = Elsewhere { url, deployment_id: called.to_owned(), token, ca, identity };
        callers.external.insert(deployment.to_owned(), there);
        self.write_callers(&callers)
    }

    /// What a daemon is given so that it can take its commands from there.
    pub fn access_elsewhere(&self, manager: &External, deployment: &str, id: &str) -> Result<Access, Report> {
        let dir = self.elsewhere_of(manager, deployment, id);
        let file = dir.join("token");
        let token = fs::read_to_string(&file).map_err(|error| unusable(&file, &error))?;
        let (url, deployment) = (manager.url.clone(), manager.deployment(deployment).to_owned());
        Ok(Access { url, deployment, token, dir, ca: manager.ca.is_some() })
    }

    /// A daemon takes no commands from elsewhere any more, or but from `manager`: its other tokens go. That one takes back
    /// what is its own.
    pub async fn forget_elsewhere(
        &self,
        deployment: &str,
        id: &str,
        manager: Option<&External>,
        stays: bool,
    ) -> Result<(), Report> {
        let own = manager.map(|manager| self.elsewhere_of(manager, deployment, id));
        for hash in entry_names(&self.elsewhere(deployment)) {
            let dir = self.elsewhere(deployment).join(hash).join(id);
            let is_own = own.as_ref() == Some(&dir);
            if !dir.exists() || (is_own && stays) {
                continue;
            }
            if let Some(manager) = manager.filter(|_| is_own) {
                revoke(manager, deployment, Grant::Receive(id)).await;
            }
            fs::remove_dir_all(&dir).map_err(|error| unusable(&dir, &error))?;
            let _ = dir.parent().map(fs::remove_dir);
        }
        let _ = fs::remove_dir(self.elsewhere(deployment));
        let _ = fs::remove_dir(self.layout.manager().join("elsewhere"));
        Ok(())
    }

    /// Nobody calls into the deployment elsewhere any more.
    pub async fn dismiss_elsewhere(
        &self,
        callers: &mut Callers,
        deployment: &str,
        manager: Option<&External>,
    ) -> Result<(), Report> {
        let Some(there) = callers.external.remove(deployment) else { return Ok(()) };
        if let Some(manager) = manager.filter(|manager| manager.identity(deployment) == there.identity) {
            revoke(manager, deployment, Grant::Invoke).await;
        }
        self.write_callers(callers)
    }

    /// Whether somebody takes commands from elsewhere.
    pub fn is_used_elsewhere(&self) -> bool {
        !entry_names(&self.layout.manager().join("elsewhere")).is_empty()
    }
}

/// Best effort: a manager that is away has the token for nobody, for its file goes.
async fn revoke(manager: &External, deployment: &str, grant: Grant<'_>) {
    if let Ok(administrator) = Administrator::of(manager) {
        let _ = administrator.revoke(manager.deployment(deployment), grant).await;
    }
}

/// For whatever user the program runs as; outside, the state directory keeps others out.
fn write_shown(root: &Path, file: &Path, text: &str) -> Result<(), Report> {
    make_dir(root)?;
    let write = || {
        use std::os::unix::fs::PermissionsExt;
        let dir = file.parent().unwrap_or(root);
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        put(file, 0o644, |file| file.write_all(text.as_bytes()))?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))
    };
    write().map_err(|error| unusable(file, &error))
}
