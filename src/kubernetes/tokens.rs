//! Tokens for commands over the life of a deployment: made before what needs them, taken back with what had them.

use super::Kubernetes;
use super::api::Apply;
use super::commands::{self, Admin, Place, Way};
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::snapshot::Snapshot;
use crate::engine::manager::Grant;
use crate::error::Report;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whoever changed a Secret with a token has broken it.
const WHOLE: Apply = Apply { dry_run: false, force: true };

impl Kubernetes {
    /// How callers of a deployment get at its manager; without one, how its administrator does.
    ///
    /// # Errors
    /// `MANAGER_NOT_FOUND`, `MANAGER_NOT_INSTALLED`, `MANAGER_UNREACHABLE`.
    pub async fn way(&self, deployment: Option<&str>) -> Result<Way, Report> {
        let cluster = self.cluster().await?;
        match deployment {
            Some(deployment) => Way::of_callers(cluster, deployment).await,
            None => Way::of_administrator(cluster).await,
        }
    }

    /// Has the tokens made that the planned stack lacks, before anything is changed. What was made already is kept: the
    /// plan may have been made again meanwhile.
    ///
    /// # Errors
    /// `MANAGER_REFUSED`, `MANAGER_UNREACHABLE`.
    pub(super) async fn mint(&self, deployment: &str) -> Result<(), Report> {
        let (place, wanted, stack, minted) = {
            let session = self.session();
            let stack = session.stack.as_ref().map(|(stack, _)| stack.clone()).unwrap_or_default();
            (session.place.clone(), Arc::clone(&session.wanted), stack, Arc::clone(&session.minted))
        };
        let Some(place) = place else { return Ok(()) };
        let snapshot = self.snapshot(deployment).await?;
        let lacking = wanted.iter().filter(|(id, wanted)| wanted.token && !minted.tokens.contains_key(*id));
        let owners: Vec<Owner<'_>> = lacking.map(|(id, _)| Owner { deployment, stack: &stack, id }).collect();
        let has_callers = minted.callers.is_some() || place.has_callers(deployment, &snapshot);
        if owners.is_empty() && has_callers {
            return Ok(());
        }
        let mut all = place.mint(self.cluster().await?, owners, deployment, has_callers).await?;
        all.tokens.extend(minted.tokens.clone());
        all.callers = all.callers.or_else(|| minted.callers.clone());
        self.session().minted = Arc::new(all);
        Ok(())
    }

    /// Puts what callers need in its place: before anything else where there is nothing yet, and where it replaces another
    /// manager's once a daemon (`up`) takes its commands from the new one.
    pub(super) async fn put_callers(&self, deployment: &str, up: bool) -> Result<(), Report> {
        let minted = Arc::clone(&self.session().minted);
        let Some(callers) = &minted.callers else { return Ok(()) };
        let snapshot = self.snapshot(deployment).await?;
        let former = snapshot.get(Kind::Secret, &callers.name);
        if former.is_some() != up {
            return Ok(());
        }
        self.cluster().await?.apply(callers, WHOLE).await?;
        self.revoke(deployment, Grant::Invoke, former).await
    }

    /// Sees to it that a past version, whose token is in the Secret `secret`, has its token and its callers.
    ///
    /// # Errors
    /// `MANAGER_CHANGED` where it took its commands from another manager: nobody would call it there.
    pub(super) async fn mint_again(&self, owner: Owner<'_>, secret: &str, snapshot: &Snapshot) -> Result<(), Report> {
        let cluster = self.cluster().await?;
        let place = Place::find(cluster, &self.options, owner.deployment).await?;
        let Some(place) = place.filter(|place| place.receiver(owner).secret == secret) else {
            let message = format!("the version before of daemon {:?} took its commands from another manager", owner.id);
            return Err(Report::new("MANAGER_CHANGED", message)
                .status(409)
                .hint("deploy that version instead, or name its manager (manager, --manager)"));
        };
        let has_callers = place.has_callers(owner.deployment, snapshot);
        let owners = if snapshot.staying(Kind::Secret, secret).is_some() { Vec::new() } else { vec![owner] };
        if has_callers && owners.is_empty() {
            return Ok(());
        }
        let minted = place.mint(cluster, owners, owner.deployment, has_callers).await?;
        for secret in minted.tokens.values().chain(&minted.callers) {
            cluster.apply(secret, WHOLE).await?;
        }
        Ok(())
    }

    /// A daemon takes no commands any more: its tokens are taken back, with the last one the callers' too.
    pub(super) async fn leaves(&self, owner: Owner<'_>) -> Result<(), Report> {
        let Owner { deployment, id, .. } = owner;
        let (snapshot, name) = (self.snapshot(deployment).await?, owner.name());
        let tokens = snapshot.of_daemon(id).filter(|object| commands::is_token(object, &name));
        self.revoke(deployment, Grant::Receive(id), tokens).await?;
        let is_last = {
            let session = self.session();
            session.stack.is_some() && session.place.is_none()
        };
        if is_last { self.dismiss_callers(deployment).await } else { Ok(()) }
    }

    /// Nobody calls into the deployment any more.
    pub(super) async fn dismiss_callers(&self, deployment: &str) -> Result<(), Report> {
        let name = commands::callers_name(deployment);
        let snapshot = self.snapshot(deployment).await?;
        let Some(secret) = snapshot.get(Kind::Secret, &name) else { return Ok(()) };
        self.revoke(deployment, Grant::Invoke, [secret]).await?;
        self.cluster().await?.delete(Kind::Secret, &name, false).await
    }

    /// Takes tokens back from the managers that the Secrets say they are of, where those can be asked: without a Secret
    /// nobody has them.
    async fn revoke<'o>(
        &self,
        deployment: &str,
        grant: Grant<'_>,
        secrets: impl IntoIterator<Item = &'o Object>,
    ) -> Result<(), Report> {
        let of: BTreeSet<&str> =
            secrets.into_iter().filter_map(|secret| secret.annotation(labels::MANAGER_ID)).collect();
        for admin in self.admins.get_or_try_init(|| self.log_in(deployment)).await? {
            if of.contains(admin.identity()) {
                admin.revoke(grant).await;
            }
        }
        Ok(())
    }

    /// The managers that tokens can be taken back from: the one that was named, and the namespace's own.
    async fn log_in(&self, deployment: &str) -> Result<Vec<Admin>, Report> {
        let cluster = self.cluster().await?;
        let named = Place::named(&self.options, deployment);
        let mut admins = Vec::new();
        for place in named.into_iter().chain(Place::installed(cluster, deployment).await?) {
            admins.extend(place.administrator(cluster).await.ok());
        }
        Ok(admins)
    }
}
