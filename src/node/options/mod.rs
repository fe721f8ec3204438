//! The options of the engine's calls: user's words in, checked values out.
//!
//! JavaScript sends the user's options as they are, and beside them what it read from the environment; where both say
//! something the user's option wins. Every rule and default is here. What is said of the platform that a call is not
//! about is checked all the same, and then not used: one program may deploy to both.

mod kubernetes;
mod local;
mod manager;
mod startup;

use crate::engine::platform::{Inputs, Secrets};
use crate::error::Report;
use crate::model::check::{At, Issues, OPTIONS, field};
use crate::model::{Platform, Raw, binding, environment};
pub use manager::{destination, install, uninstall};
pub use startup::startup;
use std::path::PathBuf;
use std::time::Duration;

/// A deploy that takes longer than this has been forgotten (Kubernetes' `progressDeadlineSeconds`).
const DEFAULT_TIMEOUT_MS: u32 = 600_000;
/// A deployment is named like a stack.
const NAME_MAX: usize = 128;
/// The longest time-out: a day.
const MOST_MS: u32 = 86_400_000;

/// Checked options.
pub struct Options {
    pub platform: Platform,
    /// `None`: the stack's id.
    pub name: Option<String>,
    pub timeout: Duration,
    /// Secrets and bindings.
    pub inputs: Inputs,
    pub local: crate::local::Options,
    pub kubernetes: crate::kubernetes::Options,
}

/// Reads `options` over `defaults`.
///
/// # Errors
/// `VALIDATION_ERROR` with every problem.
pub fn read(options: &Raw, defaults: &Raw) -> Result<Options, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let empty = Raw::Object(Vec::new());
    let options = if matches!(options, Raw::Undefined) { &empty } else { options };
    let known = ["platform", "name", "timeoutMs", "secrets", "bindings", "manager", "local", "kubernetes"];
    let fields = issues.object_of(&at, options, &known).unwrap_or(&[]);
    let platform = field(fields, "platform")
        .map_or(Some(Platform::Local), |raw| Platform::check(raw, &at.key("platform"), &mut issues))
        .unwrap_or(Platform::Local);
    let name = field(fields, "name").and_then(|raw| issues.id(&at.key("name"), Some(raw), NAME_MAX)).map(str::to_owned);
    let timeout = field(fields, "timeoutMs")
        .and_then(|raw| issues.integer(&at.key("timeoutMs"), raw, 1, MOST_MS))
        .unwrap_or(DEFAULT_TIMEOUT_MS);
    let secrets = field(fields, "secrets").map(|raw| secrets(raw, &mut issues)).unwrap_or_default();
    let bindings = field(fields, "bindings").map(|raw| binding::check(raw, &at.key("bindings"), &mut issues));
    let manager = field(fields, "manager").and_then(|raw| manager::external(raw, defaults, &mut issues));
    let mut local = local::read(field(fields, "local"), defaults, &mut issues);
    let mut kubernetes = kubernetes::read(field(fields, "kubernetes"), defaults, &mut issues);
    local.manager.clone_from(&manager);
    kubernetes.manager = manager;
    let options = Options {
        platform,
        name,
        timeout: Duration::from_millis(u64::from(timeout)),
        inputs: Inputs { secrets, bindings: bindings.unwrap_or_default() },
        local,
        kubernetes,
    };
    issues.finish(Some(options), OPTIONS, None)
}

/// `{daemonId: {NAME: value}}`. Values appear in no message.
fn secrets(raw: &Raw, issues: &mut Issues) -> Secrets {
    let root = At::ROOT;
    let at = root.key("secrets");
    let mut secrets = Secrets::new();
    for (daemon, variables) in issues.object(&at, raw).unwrap_or(&[]) {
        secrets.insert(daemon.clone(), environment::check(variables, &at.key(daemon), issues).unwrap_or_default());
    }
    secrets
}

/// What the environment says; nothing where it says the empty string.
fn default<'r>(defaults: &'r Raw, key: &str) -> Option<&'r str> {
    defaults.get(key).and_then(Raw::as_str).filter(|text| !text.is_empty())
}

/// A text of the user's options.
fn text<'r>(fields: &'r [(String, Raw)], key: &str, at: &At, issues: &mut Issues) -> Option<&'r str> {
    field(fields, key).and_then(|raw| issues.text(&at.key(key), raw))
}

/// A path of the user's options, else the environment's.
fn path(fields: &[(String, Raw)], key: &str, at: &At, defaults: &Raw, issues: &mut Issues) -> Option<PathBuf> {
    text(fields, key, at, issues).or_else(|| default(defaults, key)).map(PathBuf::from)
}

/// A truth of the user's options; false where they say nothing.
fn flag(fields: &[(String, Raw)], key: &str, at: &At, issues: &mut Issues) -> bool {
    field(fields, key).and_then(|raw| issues.boolean(&at.key(key), raw)).unwrap_or(false)
}

/// `username` and `password` of a registry: both, or neither.
fn credentials(fields: &[(String, Raw)], at: &At, issues: &mut Issues) -> (Option<String>, Option<String>) {
    let username = text(fields, "username", at, issues).map(str::to_owned);
    let password = text(fields, "password", at, issues).map(str::to_owned);
    if field(fields, "username").is_some() != field(fields, "password").is_some() {
        issues.add(at, "custom", "username and password go together");
    }
    (username, password)
}
