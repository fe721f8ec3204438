//! What has to be so before anything is changed.

use super::api::Cluster;
use super::rights;
use crate::error::{Issue, Report};
use crate::preflight::{Check, Status};
use http::Method;
use k8s_openapi::apimachinery::pkg::version::Info;
use serde_json::{Value, json};

/// Versions of Kubernetes that this is made for: minor versions of 1.
const MADE_FOR: std::ops::RangeInclusive<u32> = 30..=37;

/// The checks: can the cluster be reached, which version is it, and may we do what has to be done; with
/// `commands`, also what daemons that take commands need.
pub async fn facts(cluster: Result<&Cluster, Report>, commands: bool) -> Vec<Check> {
    let mut access = Check {
        id: "kubernetes-access",
        description: "The cluster can be reached".into(),
        status: Status::Passed,
        issues: Vec::new(),
    };
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(report) => return vec![failed(access, report)],
    };
    let (version, missing) = tokio::join!(version(cluster), rights::missing(cluster, commands));
    match version {
        Err(report) => return vec![failed(access, report)],
        Ok(skew) => {
            access.issues.extend(skew.into_iter().chain(cluster.entrance.warnings.iter().cloned()).map(warning))
        }
    }
    if !access.issues.is_empty() {
        access.status = Status::Warning;
    }
    let rights = Check {
        id: "kubernetes-rights",
        description: "Everything that a deploy does is allowed".into(),
        status: Status::Passed,
        issues: Vec::new(),
    };
    let rights = match missing {
        Err(report) => failed(rights, report),
        Ok(missing) if missing.is_empty() => rights,
        Ok(missing) => Check { status: Status::Failed, issues: missing, ..rights },
    };
    vec![access, rights]
}

fn failed(check: Check, report: Report) -> Check {
    let issue = Issue { path: Vec::new(), code: "custom".to_owned(), message: report.message, hint: report.hint };
    Check { status: Status::Failed, issues: vec![issue], ..check }
}

fn warning(message: String) -> Issue {
    Issue::new(Vec::new(), "custom", message)
}

/// A sentence where the cluster is of a version that this is not made for.
async fn version(cluster: &Cluster) -> Result<Option<String>, Report> {
    let info: Info = cluster.ask(Method::GET, "/version", None, "asking for the cluster's version").await?;
    // Some providers write `29+`.
    let minor: Option<u32> = info.minor.trim_end_matches('+').parse().ok();
    if info.major == "1" && minor.is_some_and(|minor| MADE_FOR.contains(&minor)) {
        return Ok(None);
    }
    let (from, to) = (MADE_FOR.start(), MADE_FOR.end());
    Ok(Some(format!(
        "the cluster is of version {}; this is made for 1.{from} to 1.{to}, and goes on all the same",
        info.git_version
    )))
}

/// Whether the namespace is there.
pub async fn has_namespace(cluster: &Cluster) -> Result<bool, Report> {
    let path = format!("/api/v1/namespaces/{}", cluster.namespace);
    let doing = format!("reading namespace {:?}", cluster.namespace);
    match cluster.ask::<Value>(Method::GET, &path, None, &doing).await {
        Ok(_) => Ok(true),
        Err(error) if error.http_status_code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the namespace where it is missing. It stays when the deployment goes.
pub async fn make_namespace(cluster: &Cluster) -> Result<(), Report> {
    if has_namespace(cluster).await? {
        return Ok(());
    }
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": cluster.namespace } });
    let doing = format!("making namespace {:?}", cluster.namespace);
    match cluster.ask::<Value>(Method::POST, "/api/v1/namespaces", Some(("application/json", &body)), &doing).await {
        Err(error) if error.http_status_code != 409 => Err(error),
        _ => Ok(()),
    }
}
