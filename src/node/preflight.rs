//! `preflight(stack, options)`.

use super::resources::read;
use super::value::answer;
use crate::model::{Raw, Stack};
use crate::preflight;
use napi_derive::napi;

/// A problem: where, of what kind, and what would have been right.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct Issue {
    /// Keys and indexes from the document's root.
    #[napi(ts_type = "(string | number)[]")]
    pub path: Vec<serde_json::Value>,
    /// zod's vocabulary where a word of it fits, else `custom`.
    #[napi(
        ts_type = "'invalid_type' | 'invalid_value' | 'invalid_union' | 'too_small' | 'too_big' | 'unrecognized_keys' | 'custom'"
    )]
    pub code: String,
    /// What was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One check's outcome.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct PreflightCheck {
    /// Stable, kebab case.
    pub id: String,
    /// What holds when the check passes.
    pub description: String,
    /// `warning`: it will run, though not as the stack says. `skipped`: says nothing about this platform.
    #[napi(ts_type = "'passed' | 'warning' | 'failed' | 'skipped'")]
    pub status: String,
    /// Problems, with paths of the built stack.
    pub issues: Vec<Issue>,
}

/// Whether a stack can run on a platform.
#[napi(object, object_from_js = false, object_to_js = false)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub struct PreflightReport {
    #[napi(ts_type = "Platform")]
    pub platform: String,
    /// Whether no check failed; warnings do not count.
    pub ok: bool,
    pub checks: Vec<PreflightCheck>,
}

/// Takes `{stack, options}`.
#[napi(skip_typescript)]
pub fn preflight(request: String) -> String {
    answer(|| {
        let request = read(&request)?;
        let part = |key| request.get(key).unwrap_or(&Raw::Undefined);
        let stack = Stack::from_raw(part("stack"))?;
        let options = preflight::Options::check(part("options"))?;
        Ok(preflight::run_with(&stack, options.platform, &options.given))
    })
}
