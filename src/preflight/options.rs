//! The options of `preflight(stack, options)`.

use super::Given;
use crate::error::Report;
use crate::model::check::{At, Issues, OPTIONS, field};
use crate::model::{Platform, Raw, binding};

/// What a call asks for.
#[derive(Debug, Clone)]
pub struct Options {
    pub platform: Platform,
    pub given: Given,
}

/// Every option of a deploy: whoever deploys asks with the same object first. All but `platform` and `bindings` say how a
/// deploy is carried out, and nothing about whether the stack can run.
const KNOWN: [&str; 10] =
    ["platform", "bindings", "name", "signal", "timeoutMs", "onEvent", "manager", "secrets", "local", "kubernetes"];

impl Options {
    /// Checks the options.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every issue.
    pub fn check(raw: &Raw) -> Result<Options, Report> {
        let mut issues = Issues::default();
        let fields = issues.object_of(&At::ROOT, raw, &KNOWN).unwrap_or_default();
        let platform = field(fields, "platform").unwrap_or(&Raw::Undefined);
        let platform = match raw {
            // One problem is enough for options that are none.
            Raw::Object(_) => Platform::check(platform, &At::ROOT.key("platform"), &mut issues),
            _ => None,
        };
        let bindings = field(fields, "bindings")
            .map(|raw| binding::check(raw, &At::ROOT.key("bindings"), &mut issues))
            .unwrap_or_default();
        let options = platform.map(|platform| Options { platform, given: Given { bindings } });
        issues.finish(options, OPTIONS, None)
    }
}
