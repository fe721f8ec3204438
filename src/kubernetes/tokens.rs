//! Tokens for commands over the life of a deployment: made before what needs them, taken back with what had them.

use super::Kubernetes;
use super::api::Apply;
use super::commands::{self, Place, Way};
use super::kind::Kind;
use super::labels::Owner;
use super::snapshot::Snapshot;
use crate::engine::manager::Grant;
use crate::error::Report;
use crate::model::Stack;
use std::sync::Arc;

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

    /// Has the tokens made that the planned stack lacks, before anything of it is changed.
    pub(super) async fn mint(&self, deployment: &str, stack: &Stack) -> Result<(), Report> {
        let (place, wanted) = {
            let session = self.session();
            (session.place.clone(), Arc::clone(&session.wanted))
        };
        let Some(place) = place else { return Ok(()) };
        let snapshot = self.snapshot(deployment).await?;
        let lacking = wanted.iter().filter(|(_, wanted)| wanted.token);
        let owners: Vec<Owner<'_>> = lacking.map(|(id, _)| Owner { deployment, stack: &stack.id, id }).collect();
        let has_callers = place.has_callers(deployment, &snapshot);
        if owners.is_empty() && has_callers {
            return Ok(());
        }
        let tokens = place.mint(self.cluster().await?, owners, deployment, has_callers).await?;
        self.session().tokens = Arc::new(tokens);
        Ok(())
    }

    /// Has a token made for a past version that has lost its own.
    ///
    /// # Errors
    /// `MANAGER_CHANGED` where that was for another manager.
    pub(super) async fn mint_again(&self, owner: Owner<'_>, secret: &str, snapshot: &Snapshot) -> Result<(), Report> {
        let cluster = self.cluster().await?;
        let place = Place::find(cluster, &self.options, owner.deployment).await?;
        let Some(place) = place.filter(|place| place.receiver(owner).secret == secret) else {
            let message = format!(
                "the version before of daemon {:?} took its commands from another manager, whose token is gone",
                owner.id
            );
            return Err(Report::new("MANAGER_CHANGED", message)
                .status(409)
                .hint("deploy that version instead, or name its manager (manager, --manager)"));
        };
        let has_callers = place.has_callers(owner.deployment, snapshot);
        let tokens = place.mint(cluster, vec![owner], owner.deployment, has_callers).await?;
        for token in tokens.values() {
            cluster.apply(token, Apply { dry_run: false, force: true }).await?;
        }
        Ok(())
    }

    /// A daemon takes no commands any more: its tokens are taken back, with the last one the callers' too.
    pub(super) async fn leaves(&self, deployment: &str, id: &str) -> Result<(), Report> {
        self.revoke(deployment, Grant::Receive(id)).await?;
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
        if snapshot.get(Kind::Secret, &name).is_none() {
            return Ok(());
        }
        self.revoke(deployment, Grant::Invoke).await?;
        self.cluster().await?.delete(Kind::Secret, &name, false).await
    }

    /// Takes tokens back, where there is a manager to ask: without, they open nothing.
    async fn revoke(&self, deployment: &str, grant: Grant<'_>) -> Result<(), Report> {
        let cluster = self.cluster().await?;
        let find = || async {
            let place = Place::find(cluster, &self.options, deployment).await?;
            let Some(place) = place else { return Ok(None) };
            Ok::<_, Report>(place.administrator(cluster).await.ok())
        };
        if let Some(admin) = self.admin.get_or_try_init(find).await? {
            let called = self.options.manager.as_ref().map_or(deployment, |manager| manager.deployment(deployment));
            admin.revoke(called, grant).await;
        }
        Ok(())
    }
}
