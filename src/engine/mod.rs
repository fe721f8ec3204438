//! Makes what runs like what is declared: plan = desired against observed, then run the plan.
//!
//! There is no state file. A [`Platform`] says what is there and does one thing at a time; the engine decides what,
//! in which order, and what is told to whoever called. `deploy` twice changes nothing the second time.
//!
//! ```text
//! deploy: preflight → facts → lock → survey → plan → rehearse → apply each, then remove each → status
//! ```

mod deploy;
pub mod event;
pub mod exec;
pub mod failure;
pub mod images;
pub mod logs;
pub mod manager;
pub mod manager_image;
pub mod plan;
pub mod platform;
pub mod status;

pub use deploy::{Request, all_of, deploy, destroy, plan_only, preflight_failed, rollback};
pub use event::{Event, Events};
pub use plan::{Action, Change, Desired, Observed, Plan};
pub use platform::{Inputs, Platform};
pub use status::DeploymentStatus;
