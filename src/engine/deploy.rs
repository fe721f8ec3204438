//! Running a plan.

use super::event::{Event, Events};
use super::plan::{Action, Change, Desired, Plan};
use super::platform::{Inputs, Platform, Survey};
use super::status::DeploymentStatus;
use crate::error::Report;
use crate::model::Stack;
use crate::preflight;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use std::pin::Pin;

/// What is to be deployed.
pub struct Request {
    /// The deployment's name: letters, digits, `-` and `_`, 1 to 128.
    pub name: String,
    pub stack: Stack,
    pub inputs: Inputs,
}

/// Makes the deployment as the stack says. Returns once everything that changed is up.
///
/// # Errors
/// `PREFLIGHT_FAILED` before anything is touched; else what the platform says about each resource that could not be
/// brought up, the others being up all the same. Several are one `DEPLOY_FAILED` that lists all.
pub async fn deploy(platform: &dyn Platform, request: &Request, events: &Events) -> Result<DeploymentStatus, Report> {
    // Where the lock is dear, it is taken only once it is known that something has to be changed.
    let mut early = None;
    if platform.locks_first() {
        check(platform, request, events).await?;
    } else {
        let compared = check_and_compare(platform, request, events).await?;
        if compared.1.is_empty() {
            change(platform, request, &compared, events).await?;
            return platform.status(&request.name).await;
        }
        early = Some(compared);
    }
    let lock = platform.lock(&request.name, events).await?;
    let result = async {
        let compared = match early {
            Some(compared) if lock.is_seamless() => compared,
            _ => compare(platform, request).await?,
        };
        change(platform, request, &compared, events).await
    }
    .await;
    // How it has become is looked at while the lock is on its way back.
    let status = async {
        match result {
            Ok(()) => platform.status(&request.name).await,
            Err(error) => Err(error),
        }
    };
    tokio::join!(status, lock.release()).0
}

/// What [`deploy`] would do. Changes nothing and waits for nobody.
pub async fn plan_only(platform: &dyn Platform, request: &Request, events: &Events) -> Result<Plan, Report> {
    Ok(check_and_compare(platform, request, events).await?.1)
}

/// Runs the plan.
async fn change(
    platform: &dyn Platform,
    request: &Request,
    (survey, plan): &(Survey, Plan),
    events: &Events,
) -> Result<(), Report> {
    let Request { name, stack, .. } = request;
    events.tell(Event::Plan { plan: plan.clone() });
    if !plan.is_empty() {
        platform.begin(name, stack).await?;
    }
    // What daemons are linked to has to be there before them; what is removed goes once its replacement is up.
    let (daemons, others): (Vec<&Change>, Vec<&Change>) =
        plan.changes.iter().partition(|change| change.kind == "daemon");
    for (changes, removals) in [(&others, false), (&daemons, false), (&daemons, true), (&others, true)] {
        run(platform, request, &survey.desired, changes, removals, events).await?;
    }
    Ok(())
}

/// Stops and removes everything of a deployment; with `data` also what its resources stored.
///
/// It is not an error that there is nothing: what is asked for is that nothing be there.
pub async fn destroy(platform: &dyn Platform, name: &str, data: bool, events: &Events) -> Result<(), Report> {
    let lock = platform.lock(name, events).await?;
    let result = async {
        let observed = platform.observe(name).await?;
        let mut removals: Vec<Step<'_>> = Vec::new();
        for observed in &observed {
            removals.push(platform.remove(name, &observed.id, &observed.kind, events));
        }
        all_of("destroy", name, together(platform, removals).await)?;
        platform.end(name, data).await
    }
    .await;
    lock.release().await;
    result
}

/// Brings back the version of one daemon that ran before this one.
pub async fn rollback(platform: &dyn Platform, name: &str, id: &str, events: &Events) -> Result<(), Report> {
    let lock = platform.lock(name, events).await?;
    let result = platform.rollback(name, id, events).await;
    lock.release().await;
    result
}

/// Preflight, then the place's own facts: all of both, before anything is changed.
async fn check(platform: &dyn Platform, request: &Request, events: &Events) -> Result<(), Report> {
    let report = check_stack(platform, request, events)?;
    conclude(report, platform.facts(&request.stack).await, events)
}

/// [`check`], and what is there beside it: looking changes nothing, so neither waits for the other.
async fn check_and_compare(
    platform: &dyn Platform,
    request: &Request,
    events: &Events,
) -> Result<(Survey, Plan), Report> {
    let report = check_stack(platform, request, events)?;
    let Request { name, stack, inputs } = request;
    let (facts, survey) = tokio::join!(platform.facts(stack), platform.survey(name, stack, inputs));
    // Why nothing could be seen stands among the facts, in better words.
    conclude(report, facts, events)?;
    rehearsed(platform, request, survey?).await
}

/// What is known of the stack alone.
fn check_stack(platform: &dyn Platform, request: &Request, events: &Events) -> Result<preflight::Report, Report> {
    let given = preflight::Given { bindings: request.inputs.bindings.clone() };
    let report = preflight::run_with(&request.stack, platform.name(), &given);
    if !report.ok {
        conclude(report.clone(), Vec::new(), events)?;
    }
    Ok(report)
}

/// Tells how the checks went.
///
/// # Errors
/// `PREFLIGHT_FAILED`.
fn conclude(mut report: preflight::Report, facts: Vec<preflight::Check>, events: &Events) -> Result<(), Report> {
    report.add(facts);
    events.tell(Event::Preflight { report: report.clone() });
    if report.ok { Ok(()) } else { Err(preflight_failed(report)) }
}

/// One error that lists every failed check.
pub fn preflight_failed(report: preflight::Report) -> Report {
    let failed: Vec<_> = report.failed_issues().collect();
    let message = match failed.as_slice() {
        [only] => only.message.clone(),
        several => {
            let lines: String = several.iter().map(|issue| format!("\n  - {}", issue.message)).collect();
            format!("{} problems keep this stack from being deployed:{lines}", several.len())
        }
    };
    let hint = match failed.as_slice() {
        [only] => only.hint.clone(),
        _ => None,
    };
    let mut error = Report::new("PREFLIGHT_FAILED", message).status(400).with("report", json!(report));
    error.hint = hint;
    error
}

/// What there should be against what there is, and whether the place would let it through.
async fn compare(platform: &dyn Platform, request: &Request) -> Result<(Survey, Plan), Report> {
    let survey = platform.survey(&request.name, &request.stack, &request.inputs).await?;
    rehearsed(platform, request, survey).await
}

async fn rehearsed(platform: &dyn Platform, request: &Request, survey: Survey) -> Result<(Survey, Plan), Report> {
    let plan = Plan::new(&survey.desired, &survey.observed);
    if !plan.is_empty() {
        platform.rehearse(&request.name, &plan).await?;
    }
    Ok((survey, plan))
}

async fn run(
    platform: &dyn Platform,
    request: &Request,
    desired: &[Desired],
    changes: &[&Change],
    removals: bool,
    events: &Events,
) -> Result<(), Report> {
    let Request { name, stack, .. } = request;
    let mut steps: Vec<Step<'_>> = Vec::new();
    for change in changes {
        if (change.action == Action::Delete) != removals {
            continue;
        }
        if change.action == Action::None {
            steps.push(platform.wait_up(name, &change.id, &change.kind));
            continue;
        }
        steps.push(match desired.iter().find(|desired| desired.id == change.id) {
            Some(desired) => platform.apply(name, stack, desired, change.action, events),
            None => platform.remove(name, &change.id, &change.kind, events),
        });
    }
    all_of("deploy", name, together(platform, steps).await)
}

/// Something that is under way for one resource.
type Step<'a> = Pin<Box<dyn Future<Output = Result<(), Report>> + Send + 'a>>;

/// Takes the steps side by side, not too many at once.
async fn together(platform: &dyn Platform, steps: Vec<Step<'_>>) -> Vec<Result<(), Report>> {
    stream::iter(steps).buffer_unordered(platform.at_once()).collect().await
}

/// One error for several.
pub fn all_of(what: &str, name: &str, results: Vec<Result<(), Report>>) -> Result<(), Report> {
    let mut errors: Vec<Report> = results.into_iter().filter_map(Result::err).collect();
    if errors.len() <= 1 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let lines: String = errors.iter().map(|error| format!("\n  - {}", error.message.replace('\n', "\n    "))).collect();
    let code = format!("{}_FAILED", what.to_uppercase());
    let message = format!("{} resources of {name:?} failed:{lines}", errors.len());
    Err(Report::new(&code, message).with("errors", json!(errors)))
}
