//! Makes what runs like what is declared: plan = desired against observed, then run the plan.
//!
//! There is no state file. A [`Platform`] says what is there and does one thing at a time; the engine decides what,
//! in which order, and what is told to whoever called. `deploy` twice changes nothing the second time.
//!
//! ```text
//! deploy: preflight → facts → lock → survey → plan → rehearse → apply each, then remove each → status
//! ```

mod deploy;
pub mod doctor;
pub mod event;
pub mod exec;
pub mod failure;
pub mod images;
pub mod logs;
pub mod manager;
pub mod manager_image;
pub mod plan;
pub mod platform;
pub mod startup;
pub mod status;
pub mod vault;

pub use deploy::{Request, all_of, deploy, destroy, plan_only, preflight_failed, rollback};
pub use event::{Event, Events};
pub use plan::{Action, Change, Desired, Observed, Plan};
pub use platform::{Inputs, Platform};
pub use status::DeploymentStatus;

use crate::error::Report;

/// How a deployment is; with `usage` also what its daemons use at this moment.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`.
pub async fn status(platform: &dyn Platform, name: &str, usage: bool) -> Result<DeploymentStatus, Report> {
    let mut status = platform.status(name).await?;
    if usage {
        let mut used = platform.usage(&status).await;
        status.resources.iter_mut().for_each(|resource| resource.usage = used.remove(&resource.id));
    }
    Ok(status)
}
