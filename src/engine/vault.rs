//! Filling the vaults that daemons are linked to.

use crate::error::Report;
use crate::model::{Platform, names};

/// The longest name of a value, in bytes: a file name's, and a Secret's key's.
const KEY_MAX: usize = 253;
/// The largest value, in bytes: what a Secret holds.
const VALUE_MAX: usize = 1024 * 1024;

/// What is to become of a vault.
#[derive(Debug, Clone)]
pub enum Change {
    /// A value is there, under this name, in place of the one that there was.
    Set { key: String, value: String },
    /// It is not there.
    Remove { key: String },
    /// Nothing.
    None,
}

impl Change {
    /// Whether vault, name and value can be any.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND`, `VAULT_KEY_INVALID`, `VAULT_VALUE_TOO_LARGE`; never with the value.
    pub fn check(&self, vault: &str) -> Result<(), Report> {
        // Both become parts of paths.
        if vault.is_empty() || !vault.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            let message = format!("there can be no vault {vault:?}: ids are made of letters, digits, _ and -");
            return Err(Report::new("RESOURCE_NOT_FOUND", message).status(404).with("vault", vault));
        }
        let (Change::Set { key, .. } | Change::Remove { key }) = self else { return Ok(()) };
        let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if key.is_empty() || key.len() > KEY_MAX || key.starts_with('.') || !key.bytes().all(is_sign) {
            let message = format!("{key:?} cannot be the name of a value in a vault");
            return Err(Report::new("VAULT_KEY_INVALID", message).status(400).hint(format!(
                "it is made of letters, digits, -, _ and ., does not begin with a ., and has at most {KEY_MAX} of them"
            )));
        }
        match self {
            Change::Set { value, .. } if value.len() > VALUE_MAX => {
                let message = format!("the value for {key:?} has {} bytes; a vault takes {VALUE_MAX}", value.len());
                Err(Report::new("VAULT_VALUE_TOO_LARGE", message).status(400))
            }
            _ => Ok(()),
        }
    }
}

/// The error of a platform that reads vaults and leaves filling them to others.
pub fn kept_elsewhere(platform: Platform, deployment: &str, id: &str, change: &Change) -> Report {
    let prefix = names::kubernetes_name(deployment, id);
    let how = match change {
        Change::Set { key, .. } => format!("kubectl create secret generic {prefix}-{key} --from-file=value=FILE"),
        Change::Remove { key } => format!("kubectl delete secret {prefix}-{key}"),
        Change::None => format!("kubectl get secrets: those named {prefix}-KEY"),
    };
    Report::new("NOT_AVAILABLE", format!("on platform {platform} a vault's values are Secrets of the namespace"))
        .status(501)
        .hint(how)
}
