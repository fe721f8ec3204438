//! `render(stack, options)`: a stack's manifests as text. Touches no cluster.

use super::request::Asked;
use super::value::answer;
use crate::engine;
use crate::error::Report;
use crate::kubernetes;
use crate::model::check::{self, At, Issues, OPTIONS};
use crate::model::{Platform, Raw};
use crate::preflight;
use napi_derive::napi;

/// Where no namespace is named and none can be asked for.
const NAMESPACE: &str = "default";

/// Takes `{options, defaults, stack}`; answers with YAML. Of secrets only the names are looked at.
#[napi(skip_typescript)]
pub fn render(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        can_render(&asked)?;
        let engine::Request { name, stack, inputs } = asked.stack()?;
        let given = preflight::Given { bindings: inputs.bindings.clone() };
        let report = preflight::run_with(&stack, Platform::Kubernetes, &given);
        if !report.ok {
            return Err(engine::preflight_failed(report));
        }
        kubernetes::render(&name, &stack, &inputs, &asked.options.kubernetes)
    })
}

/// Takes `{options, defaults, commands?}`; answers with the least Role that a deploy needs, as YAML; with `commands`, of
/// daemons that take some.
#[napi(skip_typescript)]
pub fn least_role(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        can_render(&asked)?;
        let commands = *asked.part("commands") == Raw::Bool(true);
        Ok(kubernetes::least_role(asked.options.kubernetes.namespace.as_deref().unwrap_or(NAMESPACE), commands))
    })
}

/// Only Kubernetes has manifests. It has to be said: the default of every call is Local.
fn can_render(asked: &Asked) -> Result<(), Report> {
    if asked.options.platform == Platform::Kubernetes {
        return Ok(());
    }
    let mut issues = Issues::default();
    let message = format!("{} has no manifests: expected \"kubernetes\"", asked.options.platform);
    issues.add(&At::ROOT.key("platform"), "invalid_value", message);
    Err(check::report(issues.0, OPTIONS, None))
}
