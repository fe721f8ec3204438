//! What the API server, or the way to it, said no with.

use crate::error::Report;
use kube::Error;
use kube::client::AuthError;
use kube::core::Status;
use serde_json::json;
use std::error::Error as _;

/// A failed request, in words. `doing` is what was tried: `applying Deployment "edge-connector"`.
pub fn report(error: &Error, doing: &str, server: &str) -> Report {
    match error {
        Error::Api(status) => api(status, doing, server),
        error if auth(error).is_some() => login(error, None),
        other => {
            let message = format!("{doing}: {server} cannot be reached: {}", chain(other));
            Report::new("CLUSTER_UNREACHABLE", message).retryable().status(503).hint(
                "is the cluster up, and the address in the kubeconfig still right? `kubectl cluster-info` asks the same",
            )
        }
    }
}

/// The server's own answer.
fn api(status: &Status, doing: &str, server: &str) -> Report {
    let said = status.message.as_str();
    let report = |code: &str| {
        Report::new(code, format!("{doing}: {said}")).status(if status.code == 0 { 500 } else { status.code })
    };
    let mut report = match (status.code, status.reason.as_str()) {
        (401, _) => Report::new("CLUSTER_UNAUTHORIZED", format!("{server} does not accept the credentials: {said}"))
            .status(401)
            .hint("the token or certificate has expired, or is of another cluster: log in again"),
        (404, _) if said.starts_with("namespaces ") => Report::new("NAMESPACE_NOT_FOUND", format!("{doing}: {said}"))
            .status(404)
            .hint("make it first, or let deploy make it: --create-namespace (kubernetes.createNamespace)"),
        (403, _) if quota(said) => report("QUOTA_EXCEEDED").hint("ask for less, or have the quota raised"),
        (403, _) if said.contains("violates PodSecurity") => report("POD_SECURITY_REFUSED")
            .hint("the namespace enforces a Pod Security level (label pod-security.kubernetes.io/enforce)"),
        (403, _) if said.contains("User ") && said.contains("cannot ") => report("CLUSTER_FORBIDDEN")
            .hint("`alien render --platform kubernetes --rbac` prints the Role that is needed"),
        (_, _) if said.contains("admission webhook") || said.contains("ValidatingAdmissionPolicy") => {
            report("ADMISSION_REFUSED").hint("the cluster has a policy against it; its message says which")
        }
        (403, _) => report("CLUSTER_FORBIDDEN"),
        (404, _) => report("CLUSTER_NOT_FOUND"),
        (409, _) => report("CLUSTER_CONFLICT").retryable(),
        (422, _) => report("CLUSTER_REFUSED"),
        (429 | 500..=599, _) => report("CLUSTER_BUSY").retryable(),
        _ => report("CLUSTER_REFUSED"),
    };
    report = report.with("reason", status.reason.as_str());
    if let Some(details) = status.details.as_ref().filter(|details| !details.causes.is_empty()) {
        let causes: Vec<_> =
            details.causes.iter().map(|cause| json!({"field": cause.field, "message": cause.message})).collect();
        report = report.with("causes", causes);
    }
    report
}

fn quota(said: &str) -> bool {
    said.contains("exceeded quota") || said.contains("failed quota")
}

/// What is wrong with the credentials, also where that shows in a request that had to renew them.
fn auth(error: &Error) -> Option<&AuthError> {
    match error {
        Error::Auth(error) => Some(error),
        Error::Service(error) => error.downcast_ref(),
        _ => None,
    }
}

/// The credentials could not even be had. `plugin` is the program that the kubeconfig has them from.
pub fn login(error: &Error, plugin: Option<&str>) -> Report {
    let plugin = plugin.map_or_else(String::new, |plugin| format!(" {plugin}"));
    let plugin = format!("the kubeconfig's credential plugin{plugin}");
    // Neither what a plugin prints is shown, which is where tokens are, nor the environment that it is started with.
    let why = match auth(error) {
        Some(AuthError::AuthExecRun { out, .. }) => {
            let said = String::from_utf8_lossy(&out.stderr);
            format!("{plugin} failed with {}: {}", out.status, said.trim())
        }
        Some(AuthError::AuthExecStart(why)) => format!("{plugin} cannot be started: {why}"),
        Some(AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed) => {
            format!("{plugin} printed no ExecCredential")
        }
        _ => format!("the kubeconfig's credentials cannot be used: {}", chain(error)),
    };
    Report::new("CREDENTIALS_UNUSABLE", why)
        .status(401)
        .hint("`kubectl auth whoami` with the same kubeconfig tries the same")
}

/// An error with everything that caused it, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Whether the same request may well be let through a little later.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Api(status) => matches!(status.code, 429 | 500..=599),
        Error::HyperError(_) | Error::Service(_) => auth(error).is_none() && !is_certificate(error),
        _ => false,
    }
}

/// A certificate that does not fit will not fit the next time either.
fn is_certificate(error: &Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if said.contains("invalid peer certificate") || said.contains("certificate") {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether the server has answered at all.
pub fn has_answered(error: &Error) -> bool {
    matches!(error, Error::Api(_))
}

/// The status code of the server's answer.
pub fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// How long the server wants to be left alone.
pub fn wanted_pause(error: &Error) -> Option<std::time::Duration> {
    match error {
        Error::Api(status) => {
            let seconds = status.details.as_ref()?.retry_after_seconds;
            (seconds > 0).then(|| std::time::Duration::from_secs(u64::from(seconds)))
        }
        _ => None,
    }
}
