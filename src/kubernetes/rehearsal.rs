//! A server-side dry run of everything that differs: whatever the cluster would refuse, it refuses before anything is
//! changed.

use super::api::{Apply, Cluster};
use super::change::Forced;
use super::kind::Object;
use super::labels;
use super::ownership;
use super::snapshot::Snapshot;
use super::survey::Wanted;
use crate::engine;
use crate::error::Report;
use futures_util::future::join_all;
use std::collections::BTreeMap;

/// Tries it all. Gives the objects on which fields have to be taken over from who changed them in passing.
///
/// # Errors
/// One that lists everything: `NAME_TAKEN`, `APPLY_CONFLICT`, and what the cluster refuses.
pub async fn rehearse(
    cluster: &Cluster,
    deployment: &str,
    snapshot: &Snapshot,
    wanted: &BTreeMap<String, Wanted>,
    force: bool,
) -> Result<Forced, Report> {
    let mut tries = Vec::new();
    for (id, wanted) in wanted {
        for object in &wanted.changed {
            let live = snapshot.get(object.kind, &object.name);
            tries.push(async move {
                (
                    object,
                    one(cluster, deployment, object, live, force)
                        .await
                        .map_err(|error| error.with("daemon", id.as_str())),
                )
            });
        }
    }
    let secrets = wanted.values().filter_map(|wanted| wanted.secret.as_ref());
    let (tried, made) = tokio::join!(join_all(tries), join_all(secrets.map(|secret| cluster.create(secret, true))));
    let mut forced = Forced::new();
    let mut results = Vec::new();
    for (object, outcome) in tried {
        results.push(outcome.map(|force| {
            if force {
                forced.insert((object.kind, object.name.clone()));
            }
        }));
    }
    results.extend(made.into_iter().map(|made| made.map(drop)));
    // Every one of them fails for want of a namespace, which is one thing to be told.
    let mut errors = results.iter().filter_map(|result| result.as_ref().err());
    if let Some(homeless) = errors.find(|error| error.code == "NAMESPACE_NOT_FOUND") {
        return Err(homeless.clone());
    }
    engine::all_of("plan", deployment, results)?;
    Ok(forced)
}

/// Tries one object; whether it has to be forced.
pub async fn one(
    cluster: &Cluster,
    deployment: &str,
    object: &Object,
    live: Option<&Object>,
    force: bool,
) -> Result<bool, Report> {
    let how = Apply { dry_run: true, force: force && live.is_some() };
    match cluster.apply(object, how).await {
        Ok(after) if live.is_none() && ownership::is_somebodys(&after.body) => {
            is_ours_by_now(cluster, deployment, object).await?;
            Ok(false)
        }
        Ok(_) => Ok(how.force),
        Err(error) if error.http_status_code != 409 => Err(error),
        Err(error) => match live {
            None => {
                is_ours_by_now(cluster, deployment, object).await?;
                Ok(false)
            }
            Some(live) => {
                let rivals = ownership::rivals(&live.body, &format!("{} {:?}", error.message, error.context));
                if !rivals.is_empty() {
                    return Err(conflict(object, &rivals, error));
                }
                cluster.apply(object, Apply { dry_run: true, force: true }).await?;
                Ok(true)
            }
        },
    }
}

/// An object that was not there when the deployment was looked at, and is now: another deploy of the same name has made
/// it, or it is somebody else's.
///
/// # Errors
/// `NAME_TAKEN`.
async fn is_ours_by_now(cluster: &Cluster, deployment: &str, object: &Object) -> Result<(), Report> {
    match cluster.get(object.kind, &object.name).await? {
        Some(there) if !labels::is_of(&there, deployment) => Err(taken(cluster, object, deployment)),
        _ => Ok(()),
    }
}

fn taken(cluster: &Cluster, object: &Object, deployment: &str) -> Report {
    let message =
        format!("{} in namespace {:?} is somebody else's, and stays as it is", object.title(), cluster.namespace);
    let rename = if deployment == labels::MANAGER.deployment { "" } else { "rename the deployment (--name), or " };
    let hint = format!("{rename}remove the other one; ours are told apart by the annotation {}", labels::DEPLOYMENT);
    Report::new("NAME_TAKEN", message)
        .status(409)
        .with("kind", object.kind.as_str())
        .with("name", object.name.as_str())
        .hint(hint)
}

fn conflict(object: &Object, rivals: &[String], error: Report) -> Report {
    let fields: Vec<&str> = error
        .context
        .get("causes")
        .and_then(|causes| causes.as_array())
        .into_iter()
        .flatten()
        .filter(|cause| {
            rivals
                .iter()
                .any(|rival| cause["message"].as_str().is_some_and(|said| said.contains(&format!("{rival:?}"))))
        })
        .filter_map(|cause| cause["field"].as_str())
        .collect();
    let (names, fields_text) =
        (rivals.join(", "), if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) });
    let message = format!("{} is also applied by {names}, which wants otherwise{fields_text}", object.title());
    Report::new("APPLY_CONFLICT", message)
        .status(409)
        .with("managers", rivals.to_vec())
        .with("fields", fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>())
        .hint("take the fields over with --force-conflicts (kubernetes.forceConflicts), or leave them to the other")
}
