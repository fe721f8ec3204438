//! Making a daemon's objects as they are to be, and taking that back where it does not come up.

use super::api::{Apply, Cluster};
use super::diagnosis::Blocked;
use super::feed::Feed;
use super::history::{self, Past};
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::lease::Held;
use super::manifest;
use super::options::OnFailure;
use super::ownership;
use super::removal;
use super::rollout::{Rollout, Stopped, has_been_up};
use super::snapshot::Snapshot;
use super::survey::Wanted;
use crate::engine::event::Events;
use crate::engine::plan::Action;
use crate::error::Report;
use crate::sys::time;
use futures_util::future::try_join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Within this a kubelet knows of a Secret's change, also one that does not watch Secrets but reads them now and then
/// (`configMapAndSecretChangeDetectionStrategy`).
const NEWS: SignedDuration = SignedDuration::from_secs(90);

/// Objects whose fields are taken over from those who changed them in passing.
pub type Forced = BTreeSet<(Kind, String)>;

/// A change of one daemon.
pub struct Change<'a> {
    pub cluster: &'a Cluster,
    pub feed: &'a Feed,
    pub snapshot: &'a Snapshot,
    pub owner: Owner<'a>,
    pub action: Action,
    pub events: &'a Events,
    pub held: &'a Held,
}

impl Change<'_> {
    /// Makes the daemon as it is to be, and returns once it is up. `token` is a Secret that it needs and that was only just
    /// made up.
    ///
    /// # Errors
    /// `DAEMON_NOT_UP`, or `UPDATE_ROLLED_BACK` where the version before was brought back.
    pub async fn make(
        &self,
        wanted: &Wanted,
        token: Option<&Object>,
        forced: &Forced,
        on_failure: OnFailure,
    ) -> Result<(), Report> {
        let live = self.snapshot.staying(Kind::Deployment, &self.owner.name());
        let desired = wanted.objects.iter().find(|object| object.kind == Kind::Deployment);
        let replaces =
            live.zip(desired).is_some_and(|(live, desired)| history::version(live) != history::version(desired));
        let state = if self.action == Action::Create { "starting" } else { "updating" };
        self.events.resource(self.owner.id, self.action, state, None);
        let former = if replaces { Some(self.before(live, desired).await?) } else { None };
        let deployment = self.apply_all(wanted, token, forced).await?;
        let stale_rights =
            wanted.stale.iter().filter(|(kind, _)| *kind != Kind::Secret && *kind != Kind::ControllerRevision);
        self.remove_all(stale_rights.cloned().collect()).await?;
        let deployment = match deployment.as_ref().or(live) {
            Some(deployment) => deployment,
            None => return Ok(()),
        };
        let mut rollout = self.rollout(deployment);
        rollout.new_credentials = wanted.changed.iter().any(|object| object.kind == Kind::Secret)
            || self.has_new_credentials(&deployment.body);
        match (rollout.wait().await, former) {
            (Ok(()), former) => {
                let former = former.map(|(former, _)| former);
                let mut past = history::past(self.snapshot, self.owner.id);
                past.retain(|past| former.as_ref().is_none_or(|former| former.name != past.name));
                past.splice(0..0, former);
                let mut garbage = history::garbage(self.snapshot, self.owner.id, &[deployment], &past);
                garbage.extend(wanted.stale.iter().filter(|(kind, _)| *kind == Kind::Secret).cloned());
                garbage.dedup();
                self.remove_all(garbage).await?;
                self.events.resource(self.owner.id, self.action, "running", None);
                Ok(())
            }
            (Err(Stopped::Blocked(blocked)), Some((former, true))) if on_failure == OnFailure::Rollback => {
                Err(self.take_back(&rollout, &blocked, wanted, &former).await)
            }
            (Err(stopped), former) => {
                let report = rollout.report(stopped);
                Err(if former.is_some() { report.with("kept", true) } else { report })
            }
        }
    }

    /// The version before the one that is wanted, and whether it has been up, so that it can be brought back. One that never
    /// was gives way to the last that was, where there is one.
    async fn before(&self, live: Option<&Object>, wanted: Option<&Object>) -> Result<(Past, bool), Report> {
        let was_up = live.is_some_and(has_been_up);
        if !was_up {
            let known = [live, wanted].map(|deployment| deployment.and_then(history::version));
            let mut past = history::past(self.snapshot, self.owner.id).into_iter();
            if let Some(past) = past.find(|past| !known.contains(&past.deployment().and_then(history::version))) {
                return Ok((past, true));
            }
        }
        Ok((history::keep(self.cluster, self.owner, self.snapshot).await?, was_up))
    }

    /// Applies what differs: what the Deployment refers to first. Gives the Deployment, where it was applied.
    async fn apply_all(
        &self,
        wanted: &Wanted,
        token: Option<&Object>,
        forced: &Forced,
    ) -> Result<Option<Object>, Report> {
        self.held.check()?;
        if let Some(token) = token {
            self.cluster.apply(token, Apply { dry_run: false, force: true }).await?;
        }
        if let Some(secret) = &wanted.secret {
            match self.cluster.create(secret, false).await {
                // Its name is random, so it was us: the answer was lost on its way.
                Err(error) if error.http_status_code != 409 => return Err(error),
                _ => {}
            }
        }
        let apply = |object: &Object| {
            let force = forced.contains(&(object.kind, object.name.clone()));
            let object = object.clone();
            async move { self.cluster.apply(&object, Apply { dry_run: false, force }).await }
        };
        let (deployment, others): (Vec<&Object>, Vec<&Object>) =
            wanted.changed.iter().partition(|object| object.kind == Kind::Deployment);
        try_join_all(others.into_iter().map(apply)).await?;
        let Change { cluster, feed, owner, action, events, .. } = self;
        let (name, kind) = (owner.name(), Kind::Deployment);
        if self.snapshot.get(kind, &name).is_some() && self.snapshot.staying(kind, &name).is_none() {
            // A removal was cut short. What is applied to what is being removed goes with it.
            removal::wait_gone(cluster, feed, owner.id, *action, events).await?;
        }
        self.held.check()?;
        let applied = try_join_all(deployment.into_iter().map(apply)).await?;
        Ok(applied.into_iter().next())
    }

    /// Whether the pull Secret that there was had been changed only just before this Deployment.
    fn has_new_credentials(&self, deployment: &Value) -> bool {
        let secret = self.snapshot.get(Kind::Secret, &manifest::pull_secret(&self.owner.name()));
        let changed = secret.and_then(|secret| ownership::applied_at(&secret.body));
        changed.zip(ownership::applied_at(deployment)).is_some_and(|(secret, now)| now.duration_since(secret) < NEWS)
    }

    async fn remove_all(&self, objects: Vec<(Kind, String)>) -> Result<(), Report> {
        try_join_all(objects.iter().map(|(kind, name)| self.cluster.delete(*kind, name, false))).await?;
        Ok(())
    }

    fn rollout<'r>(&'r self, applied: &'r Object) -> Rollout<'r> {
        let Change { cluster, feed, owner, action, events, .. } = self;
        Rollout { cluster, feed, applied, id: owner.id, action: *action, events, new_credentials: false }
    }

    /// Brings back the version before, and gives the error that says so.
    async fn take_back(&self, failed: &Rollout<'_>, blocked: &Blocked, wanted: &Wanted, former: &Past) -> Report {
        let Blocked { reason, message, .. } = blocked;
        let cause = failed.blocked(blocked);
        let why = format!("{reason}: {message}");
        let rolled_back = format!("{} {why}", time::rfc3339(time::wall()));
        let id = self.owner.id;
        self.events.resource(id, self.action, "updating", Some(format!("{why}; bringing back the version before")));
        let brought = self.restore(former, Some(&rolled_back)).await;
        // It was the present version all along, so it is no past one.
        let mut garbage = vec![(Kind::ControllerRevision, former.name.clone())];
        garbage.extend(wanted.secret.iter().map(|secret| (Kind::Secret, secret.name.clone())));
        let added = wanted.objects.iter().filter(|object| matches!(object.kind, Kind::Role | Kind::RoleBinding));
        let added = added.filter(|object| !former.objects.iter().any(|past| past.kind == object.kind));
        garbage.extend(added.map(|object| (object.kind, object.name.clone())));
        let tail = cause.message.split_once("\n").map_or_else(String::new, |(_, lines)| format!("\n{lines}"));
        let outcome = match brought {
            Ok(()) => match self.remove_all(garbage).await {
                Ok(()) => "The version before runs again.".to_owned(),
                Err(error) => format!("The version before runs again, with leftovers: {}", error.message),
            },
            Err(error) => format!("The version before could not be brought back: {}", error.message),
        };
        let message = format!("the new version of daemon {id:?} did not come up: {why}. {outcome}{tail}");
        // Nothing is left crash-looping.
        let hint = cause.hint.clone().filter(|_| reason != "CrashLoopBackOff");
        let mut report = Report { message, hint, ..cause };
        report.code = "UPDATE_ROLLED_BACK".to_owned();
        report
    }

    /// Applies a past version whole, and returns once it is up.
    pub async fn restore(&self, past: &Past, rolled_back: Option<&str>) -> Result<(), Report> {
        let mut applied = None;
        for object in &past.objects {
            let mut object = object.clone();
            if object.kind == Kind::Deployment {
                let annotations = &mut object.body["metadata"]["annotations"];
                match rolled_back {
                    Some(why) => annotations[labels::ROLLED_BACK] = json!(why),
                    None => drop(annotations.as_object_mut().and_then(|all| all.remove(labels::ROLLED_BACK))),
                }
            }
            self.held.check()?;
            applied = Some(self.cluster.apply(&object, Apply { dry_run: false, force: true }).await?);
        }
        let Some(applied) = applied.filter(|object| object.kind == Kind::Deployment) else { return Ok(()) };
        let rollout = self.rollout(&applied);
        rollout.wait().await.map_err(|stopped| rollout.report(stopped))
    }

    /// The version that ran before the present one.
    ///
    /// # Errors
    /// `NO_PREVIOUS_VERSION`.
    pub fn former(&self) -> Result<Past, Report> {
        let id = self.owner.id;
        let name = self.owner.name();
        let Some(live) = self.snapshot.get(Kind::Deployment, &name) else {
            let message = format!("daemon {id:?} has no Deployment {name:?} any more");
            return Err(Report::new("NO_PREVIOUS_VERSION", message).status(409).hint("deploy makes it again"));
        };
        let mut past = history::past(self.snapshot, id).into_iter();
        let Some(former) = past.find(|past| past.deployment().and_then(history::version) != history::version(live))
        else {
            let message = format!("there is no version of daemon {id:?} before the one that runs");
            return Err(Report::new("NO_PREVIOUS_VERSION", message).status(409));
        };
        Ok(former)
    }

    /// Brings back the version that ran before the present one.
    ///
    /// # Errors
    /// `NO_PREVIOUS_VERSION`.
    pub async fn roll_back(&self) -> Result<(), Report> {
        let (id, name) = (self.owner.id, self.owner.name());
        let former = self.former()?;
        let mut past = history::past(self.snapshot, id);
        self.events.resource(id, self.action, "updating", None);
        let present = history::keep(self.cluster, self.owner, self.snapshot).await?;
        self.restore(&former, None).await?;
        // What was present is now the one before, and the one before is present.
        let now = self.snapshot.get(Kind::Deployment, &name).and_then(history::version);
        past.retain(|past| past.name != former.name && past.deployment().and_then(history::version) != now);
        past.insert(0, present);
        let mut garbage = vec![(Kind::ControllerRevision, former.name.clone())];
        let restored: Vec<&Object> = former.deployment().into_iter().collect();
        garbage.extend(history::garbage(self.snapshot, id, &restored, &past));
        let has_rights = former.objects.iter().any(|object| object.kind == Kind::Role);
        if !has_rights {
            let rights = [Kind::RoleBinding, Kind::Role].into_iter();
            garbage.extend(
                rights.filter(|kind| self.snapshot.get(*kind, &name).is_some()).map(|kind| (kind, name.clone())),
            );
        }
        self.remove_all(garbage).await?;
        self.events.resource(id, self.action, "running", None);
        Ok(())
    }

    /// Ends the pod and starts it again; returns once it is up.
    pub async fn restart(&self) -> Result<(), Report> {
        self.events.resource(self.owner.id, self.action, "restarting", None);
        let stamp = json!({ labels::RESTARTED: time::rfc3339(time::wall()) });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": stamp } } } });
        // A manager of its own: the stamp is no part of what is applied.
        let patched = self.cluster.merge(Kind::Deployment, &self.owner.name(), &patch, "alien-restart").await?;
        let rollout = self.rollout(&patched);
        rollout.wait().await.map_err(|stopped| rollout.report(stopped))?;
        self.events.resource(self.owner.id, self.action, "running", None);
        Ok(())
    }
}
