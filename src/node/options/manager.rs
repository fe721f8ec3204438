//! `manager`: one that runs elsewhere; and what `alien manager` is told.

use super::{default, text};
use crate::engine::manager::{External, Install, Uninstall};
use crate::engine::manager_image::Destination;
use crate::error::Report;
use crate::model::check::{At, Issues, OPTIONS, field, quote};
use crate::model::{Quantity, Raw, dns};
use std::path::{Path, PathBuf};

/// Ids of a manager's deployments, as of any.
const ID_MAX: usize = 128;

/// `{url, token, deploymentId?, caFile?}`.
pub fn external(raw: &Raw, defaults: &Raw, issues: &mut Issues) -> Option<External> {
    let root = At::ROOT;
    let at = root.key("manager");
    let fields = issues.object_of(&at, raw, &["url", "token", "deploymentId", "caFile"])?;
    let mut required = |key: &str| {
        if field(fields, key).is_none() {
            issues.missing(&at.key(key));
        }
        text(fields, key, &at, issues).map(str::to_owned)
    };
    let (url, token) = (required("url"), required("token"));
    let deployment_id = field(fields, "deploymentId");
    let deployment_id =
        deployment_id.and_then(|raw| issues.id(&at.key("deploymentId"), Some(raw), ID_MAX)).map(str::to_owned);
    if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        issues.add(&at.key("token"), "invalid_value", "expected a token: letters, digits and signs, without a space");
    }
    let url = url.and_then(|url| base(&url, &at.key("url"), issues));
    let given = field(fields, "caFile").is_some();
    let file = text(fields, "caFile", &at, issues).or_else(|| default(defaults, "commandsCaFile")).map(PathBuf::from);
    let secure = url.as_deref().is_none_or(|url| url.starts_with("https:"));
    if given && !secure {
        issues.add(&at.key("caFile"), "invalid_value", "goes with an https:// address");
    }
    let ca = file.filter(|_| secure).and_then(|file| {
        let pem = authority(&file);
        pem.map_err(|why| {
            let message = format!("{} cannot be used: {why}", file.display());
            issues.add(&at.key("caFile"), "invalid_value", message);
        })
        .ok()
    });
    Some(External { url: url?, token: token?, deployment_id, ca })
}

/// The certificates in a file, in PEM. They are read here because what they are says which manager is meant.
fn authority(file: &Path) -> Result<String, String> {
    let pem = std::fs::read_to_string(file).map_err(|why| why.to_string())?;
    match reqwest::Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        _ => Err("it holds no certificate in PEM".to_owned()),
    }
}

/// An address without what every call puts behind it.
fn base(url: &str, at: &At, issues: &mut Issues) -> Option<String> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let plain = parsed.filter(|url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
    });
    let Some(plain) = plain else {
        // Not the text itself: it may hold a password.
        issues.add(at, "invalid_value", "expected an http:// or https:// URL without user, query and fragment");
        return None;
    };
    let text = plain.as_str().trim_end_matches('/');
    Some(text.strip_suffix("/v1").unwrap_or(text).to_owned())
}

/// `{image, tlsSecret?, storage?, storageClass?}`.
///
/// # Errors
/// `VALIDATION_ERROR` with every problem.
pub fn install(raw: &Raw) -> Result<Install, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let fields = issues.object_of(&at, raw, &["image", "tlsSecret", "storage", "storageClass"]).unwrap_or(&[]);
    if field(fields, "image").is_none() {
        issues.missing(&at.key("image"));
    }
    let image = text(fields, "image", &at, &mut issues).unwrap_or_default().to_owned();
    let storage = text(fields, "storage", &at, &mut issues).map(str::to_owned);
    if let Some(storage) = storage.as_deref().filter(|text| Quantity::parse(text).is_err()) {
        let message = format!("expected a Kubernetes quantity such as \"1Gi\", received {}", quote(storage));
        issues.add(&at.key("storage"), "invalid_value", message);
    }
    let mut name = |key: &str| {
        let name = text(fields, key, &at, &mut issues).map(str::to_owned);
        if let Some(name) = name.as_deref().filter(|name| !dns::is_subdomain(name)) {
            let message = format!("expected {}, received {}", dns::SUBDOMAIN, quote(name));
            issues.add(&at.key(key), "invalid_value", message);
        }
        name
    };
    let (tls_secret, storage_class) = (name("tlsSecret"), name("storageClass"));
    issues.finish(Some(Install { image, tls_secret, storage, storage_class }), OPTIONS, None)
}

/// `{data?, force?}`.
///
/// # Errors
/// `VALIDATION_ERROR` with every problem.
pub fn uninstall(raw: &Raw) -> Result<Uninstall, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let fields = issues.object_of(&at, raw, &["data", "force"]).unwrap_or(&[]);
    let mut flag = |key: &str| super::flag(fields, key, &at, &mut issues);
    let wanted = Uninstall { data: flag("data"), force: flag("force") };
    issues.finish(Some(wanted), OPTIONS, None)
}

/// Where the manager's image goes: `{push}` or `{output}`.
///
/// # Errors
/// `VALIDATION_ERROR`.
pub fn destination(raw: &Raw) -> Result<Destination, Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let fields = issues.object_of(&at, raw, &["push", "output"]).unwrap_or(&[]);
    let push = text(fields, "push", &at, &mut issues).map(str::to_owned);
    let output = text(fields, "output", &at, &mut issues).map(str::to_owned);
    if push.is_some() == output.is_some() {
        issues.add(&at, "custom", "expected either push or output");
    }
    let destination = Destination { push: push.is_some(), reference: push.or(output).unwrap_or_default() };
    issues.finish(Some(destination), OPTIONS, None)
}
