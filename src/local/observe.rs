//! What there is of a deployment, read from where it is true, and how it is.

use super::control;
use super::deployment::{self, Meta};
use super::layout::Layout;
use super::version::Document;
use crate::engine::failure;
use crate::engine::plan::Observed;
use crate::engine::status::{Condition, DeploymentStatus, Limits, ResourceStatus, State, sort_as};
use crate::error::Report;
use crate::supervisor::protocol::{ExitStatus, Phase, Status};
use crate::supervisor::spec::{self, CURRENT, REMOVED};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};

/// Daemons that are asked by one task.
const TOGETHER: usize = 64;

/// A daemon as it is found.
struct Found {
    id: String,
    /// `None` where it is being removed, or its folder is damaged.
    document: Option<Document>,
    status: Result<Status, Report>,
}

async fn daemons(layout: &Layout, name: &str) -> Vec<Found> {
    let ids = deployment::entry_names(&layout.daemons(name));
    let mut asked = Vec::new();
    // A task for some of them: many are more than one processor's work.
    for some in ids.chunks(TOGETHER) {
        let some: Vec<_> = some.iter().map(|id| find(layout.daemon(name, id), id.clone())).collect();
        asked.push(tokio::spawn(join_all(some)));
    }
    let found = join_all(asked).await.into_iter();
    found.flat_map(|some| some.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))).collect()
}

async fn find(dir: PathBuf, id: String) -> Found {
    let unwanted = dir.join(REMOVED).exists();
    let document = if unwanted { None } else { spec::read(&dir.join(CURRENT)).ok() };
    Found { document, status: control::status(&dir).await, id }
}

/// How one daemon is, by its folder.
pub async fn one(dir: &Path) -> ResourceStatus {
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    daemon_status(dir, find(dir.to_owned(), id).await)
}

/// Every resource with the fields that it was made from.
pub async fn observe(layout: &Layout, name: &str) -> Vec<Observed> {
    let daemons = daemons(layout, name).await.into_iter().map(|found| Observed {
        unhealthy: unhealthy(&found),
        kind: "daemon".to_owned(),
        // A folder without a readable spec differs from everything, and so is made anew.
        fields: found.document.map(|document| document.declared.fields).unwrap_or_default(),
        id: found.id,
    });
    let stored = deployment::stored(layout, name).into_iter();
    let stored =
        stored.map(|(id, stored)| Observed { id, kind: stored.kind, fields: stored.declared.fields, unhealthy: None });
    daemons.chain(stored).collect()
}

/// Why the daemon needs to be started again though it is as declared.
fn unhealthy(found: &Found) -> Option<String> {
    match &found.status {
        Err(error) if error.code == "SUPERVISOR_DOWN" => Some("its supervisor is not running".to_owned()),
        Err(error) => Some(error.message.clone()),
        Ok(status) if status.state == Phase::CrashLooping => {
            let how = status.last_exit.as_ref().map_or("a failed start".to_owned(), ExitStatus::in_words);
            Some(format!("it is crash-looping, last after {how}"))
        }
        Ok(_) => None,
    }
}

/// How every resource is, in the order of the stack.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, naming those that there are.
pub async fn status(layout: &Layout, name: &str) -> Result<DeploymentStatus, Report> {
    let Some(Meta { stack_id, order, .. }) = deployment::meta(layout, name) else {
        return Err(not_found(layout, name));
    };
    let daemons = daemons(layout, name).await;
    let mut resources: Vec<ResourceStatus> =
        daemons.into_iter().map(|found| daemon_status(&layout.daemon(name, &found.id), found)).collect();
    let stored = deployment::stored(layout, name).into_iter();
    resources.extend(
        stored.map(|(id, stored)| ResourceStatus::new(id, &stored.kind, stored.declared.lifecycle, State::Running)),
    );
    sort_as(&mut resources, order.iter().map(String::as_str));
    Ok(DeploymentStatus { name: name.to_owned(), platform: "local", stack_id, resources })
}

/// The error of every call about a deployment that does not exist.
pub fn not_found(layout: &Layout, name: &str) -> Report {
    let root = layout.root().display().to_string();
    let elsewhere = "--state-dir (ALIEN_STATE_DIR) says where to look";
    failure::no_deployment(name, &root, &deployment::names(layout), elsewhere)
}

fn daemon_status(dir: &Path, found: Found) -> ResourceStatus {
    let Found { id, document, status } = found;
    let (lifecycle, run) = match document {
        Some(document) => (document.declared.lifecycle, Some(document.run)),
        None => ("live".to_owned(), None),
    };
    let mut resource = ResourceStatus::new(id, "daemon", lifecycle, State::Failed);
    resource.image = run.as_ref().map(|run| run.image.clone());
    resource.digest = run.as_ref().map(|run| run.digest.clone());
    resource.limits = run.as_ref().and_then(|run| Limits::new(run.limits.cpu_millis, run.limits.memory_bytes));
    match status {
        Ok(status) => show(&mut resource, status),
        Err(error) => {
            if run.is_none() {
                resource.state = State::Stopping;
            }
            let reason = if error.code == "SUPERVISOR_DOWN" { "SupervisorDown" } else { "SupervisorUnresponsive" };
            let message = match reason {
                "SupervisorDown" => format!("no supervisor keeps {}; deploy again to start it", dir.display()),
                _ => error.message,
            };
            resource.conditions.push(Condition::new("Ready", false, reason, message));
        }
    }
    resource
}

/// What is known of a daemon that tells of itself.
pub(super) fn show(resource: &mut ResourceStatus, status: Status) {
    resource.state = match status.state {
        Phase::Pending => State::Pending,
        Phase::Starting => State::Starting,
        Phase::Running => State::Running,
        Phase::CrashLooping => State::CrashLooping,
        Phase::Stopping => State::Stopping,
    };
    resource.conditions = conditions(&status);
    resource.image = Some(status.image);
    resource.digest = Some(status.digest);
    resource.pid = status.pid;
    resource.started_at = status.started_at;
    resource.restarts = status.restarts;
    resource.last_exit = status.last_exit;
    resource.next_start_at = status.next_start_at;
}

fn conditions(status: &Status) -> Vec<Condition> {
    let (reason, message) = match (&status.state, &status.failure) {
        (Phase::Running, _) => ("Up", "the program is up".to_owned()),
        (Phase::CrashLooping, Some(failure)) => ("StartFailed", failure.message.clone()),
        (Phase::CrashLooping, None) => {
            let how = status.last_exit.as_ref().map_or("an unknown cause".to_owned(), ExitStatus::in_words);
            ("CrashLooping", format!("the program ended with {how} and is started again"))
        }
        (Phase::Starting, _) => ("Starting", "the program runs and has yet to stay up".to_owned()),
        (Phase::Pending, _) => ("Pending", "the sandbox is being made".to_owned()),
        (Phase::Stopping, _) => ("Stopping", "the program was asked to end".to_owned()),
    };
    let ready = Condition::new("Ready", status.state == Phase::Running, reason, message).since(&status.since);
    let mut conditions = vec![ready];
    if let Some(why) = &status.unlimited {
        conditions.push(Condition::new("LimitsEnforced", false, "LimitsNotEnforced", why.message.clone()));
    }
    if let Some(back) = &status.rolled_back {
        let message =
            format!("the last update did not come up, and the version before was brought back: {}", back.why());
        conditions.push(Condition::new("RolledBack", true, "UpdateFailed", message));
    }
    conditions
}
