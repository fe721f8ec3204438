//! Versions that were replaced: each is a ControllerRevision with the objects as they had been applied. Their Secrets
//! are immutable and stay as long as a version refers to them.

use super::api::Cluster;
use super::commands;
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::manifest;
use super::ownership::applied;
use super::snapshot::Snapshot;
use super::version_secret::secret_of;
use crate::error::Report;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Versions that are kept besides the present one.
const KEPT: usize = 2;
/// What a version is made of, in the order in which it is applied. The pull Secret is no part: it holds credentials,
/// which belong to now.
const PARTS: [Kind; 4] = [Kind::ServiceAccount, Kind::Role, Kind::RoleBinding, Kind::Deployment];

/// A version that was replaced.
#[derive(Debug, Clone)]
pub struct Past {
    /// Of its ControllerRevision.
    pub name: String,
    number: i64,
    pub objects: Vec<Object>,
}

impl Past {
    fn read(revision: &Object) -> Past {
        let objects = revision.body["data"]["objects"].as_array().into_iter().flatten();
        let objects = objects.filter_map(|body| {
            let kind = Kind::parse(body["kind"].as_str()?)?;
            let name = body["metadata"]["name"].as_str()?.to_owned();
            Some(Object { kind, name, body: body.clone() })
        });
        Past {
            name: revision.name.clone(),
            number: revision.body["revision"].as_i64().unwrap_or_default(),
            objects: objects.collect(),
        }
    }

    pub fn deployment(&self) -> Option<&Object> {
        self.objects.iter().find(|object| object.kind == Kind::Deployment)
    }

    fn secrets(&self) -> impl Iterator<Item = String> {
        self.deployment().into_iter().flat_map(secrets_of)
    }
}

/// Which version of the daemon a Deployment is to run.
pub fn version(deployment: &Object) -> Option<&str> {
    deployment.body["spec"]["template"]["metadata"]["annotations"][labels::VERSION].as_str()
}

/// A daemon's past versions, the latest first.
pub fn past(snapshot: &Snapshot, id: &str) -> Vec<Past> {
    let revisions = snapshot.of_daemon(id).filter(|object| object.kind == Kind::ControllerRevision);
    let mut past: Vec<Past> = revisions.map(Past::read).collect();
    past.sort_by_key(|past| std::cmp::Reverse(past.number));
    past
}

/// Keeps the version that the snapshot has, before it is replaced.
pub async fn keep(cluster: &Cluster, owner: Owner<'_>, snapshot: &Snapshot) -> Result<Past, Report> {
    let name = owner.name();
    let live = PARTS.iter().filter_map(|kind| snapshot.get(*kind, &name));
    let objects: Vec<Value> = live.filter_map(|object| applied(&object.body)).collect();
    let last = past(snapshot, owner.id).into_iter().next();
    let number = last.as_ref().map_or(1, |last| last.number + 1);
    // An update that was cut short has kept it already, before it changed the rights that are its own.
    let live = snapshot.get(Kind::Deployment, &name).and_then(version);
    if let Some(last) = last.filter(|last| last.deployment().and_then(version) == live) {
        return Ok(last);
    }
    let rest = json!({ "revision": number, "data": { "objects": objects } });
    let revision = owner.object(Kind::ControllerRevision, format!("{name}-v{number}"), rest);
    match cluster.create(&revision, false).await {
        // The answer was lost on its way, or another has been quicker by a hair: the numbers go on.
        Err(error) if error.http_status_code == 409 => Ok(Past::read(&revision)),
        Err(error) => Err(error),
        Ok(_) => Ok(Past::read(&revision)),
    }
}

/// Past versions, and Secrets of versions, that nobody comes back to: the first of `present` is the Deployment as it is
/// to be, `past` has the latest version first.
pub fn garbage(snapshot: &Snapshot, id: &str, present: &[&Object], past: &[Past]) -> Vec<(Kind, String)> {
    // What an update kept that was cut short and not gone on with is no past.
    let now = present.first().and_then(|deployment| version(deployment));
    let (same, mut kept): (Vec<&Past>, Vec<&Past>) =
        past.iter().partition(|past| now.is_some() && past.deployment().and_then(version) == now);
    let old = kept.split_off(kept.len().min(KEPT));
    let garbage = same.into_iter().chain(old).map(|past| (Kind::ControllerRevision, past.name.clone()));
    let mut garbage: Vec<(Kind, String)> = garbage.collect();
    let mut wanted: BTreeSet<String> = kept.into_iter().flat_map(Past::secrets).collect();
    wanted.extend(present.iter().flat_map(|object| secrets_of(object)));
    let is_old = |object: &&Object| object.kind == Kind::Secret && (is_version(object) || is_token(object, present));
    let secrets = snapshot.of_daemon(id).filter(is_old);
    garbage.extend(
        secrets.filter(|object| !wanted.contains(&object.name)).map(|object| (Kind::Secret, object.name.clone())),
    );
    garbage
}

/// The Secrets that a version refers to by a name of its own: what is secret in it, and its token for commands.
fn secrets_of(deployment: &Object) -> impl Iterator<Item = String> {
    secret_of(deployment).into_iter().chain(commands::secret_of(deployment).map(str::to_owned))
}

fn is_token(secret: &Object, present: &[&Object]) -> bool {
    present.first().is_some_and(|deployment| commands::is_token(secret, &deployment.name))
}

/// Whether a Secret of a daemon is that of a version.
fn is_version(secret: &Object) -> bool {
    secret.body["immutable"] == true
        && secret.name.rsplit_once('-').is_some_and(|(prefix, _)| prefix.ends_with(manifest::SECRETS))
}
