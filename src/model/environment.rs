//! A daemon's own variables, and the names that are not its to set.

use super::check::{At, Issues};
use super::raw::Raw;
use std::collections::BTreeMap;

/// Names that a deployment sets for the provider it runs on, besides everything that begins with `ALIEN_`.
const RESERVED: [&str; 8] = [
    "AWS_ACCOUNT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_REGION",
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_TENANT_ID",
    "GCP_PROJECT_ID",
    "GCP_REGION",
    "GOOGLE_CLOUD_PROJECT",
];
const RESERVED_PREFIX: &str = "ALIEN_";

/// The longest `NAME=value` that Linux hands to a program, in bytes: `MAX_ARG_STRLEN` less the ending NUL.
const MOST_BYTES: usize = 131_071;

/// Checks a map of variables. No message ever holds a value: it may be a secret.
pub fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Option<BTreeMap<String, String>> {
    let fields = issues.object(at, raw)?;
    let mut variables = BTreeMap::new();
    for (name, value) in fields {
        let at = at.key(name);
        check_name(name, &at, issues);
        match value {
            Raw::String(text) if text.contains('\0') => {
                issues.add(&at, "invalid_value", "the value contains a NUL byte");
            }
            Raw::String(text) if name.len() + 1 + text.len() > MOST_BYTES => {
                let found = name.len() + 1 + text.len();
                let message =
                    format!("expected at most {MOST_BYTES} bytes for name and value together, received {found}");
                issues.add(&at, "too_big", message).hint = Some("no Linux program can be given more".to_owned());
            }
            Raw::String(text) => {
                variables.insert(name.clone(), text.clone());
            }
            other => {
                let issue = issues.wrong_type(&at, "string", other);
                issue.hint = match other {
                    Raw::Undefined => Some("leave the name out, or give it a default with ??".to_owned()),
                    Raw::Number(_) | Raw::Bool(_) => Some("wrap it in String(…)".to_owned()),
                    Raw::Object(_) | Raw::Array(_) => Some("wrap it in JSON.stringify(…)".to_owned()),
                    _ => None,
                };
            }
        }
    }
    Some(variables)
}

fn check_name(name: &str, at: &At, issues: &mut Issues) {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
        let message = "a variable's name is letters, digits and _, and does not begin with a digit";
        issues.add(at, "invalid_value", message);
    } else if name.starts_with(RESERVED_PREFIX) {
        issues.add(at, "invalid_value", "the name is reserved: the deployment sets what begins with ALIEN_");
    } else if RESERVED.contains(&name) {
        issues.add(at, "invalid_value", "the name is reserved: the deployment sets it");
    }
}
