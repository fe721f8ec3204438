//! Who may do what: tokens, random and kept as hashes only, each for one role in one place.

use super::clock::Millis;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::io;

/// What a token lets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Take the commands of one daemon, and answer them.
    Receive,
    /// Make commands in one deployment, and see what becomes of them.
    Invoke,
    /// Everything, tokens included.
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Receive => "receive",
            Role::Invoke => "invoke",
            Role::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        [Role::Receive, Role::Invoke, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// A role with the place where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Receive { deployment: String, resource: String },
    Invoke { deployment: String },
    Admin,
}

impl Scope {
    /// A role in a place.
    ///
    /// # Errors
    /// What the role needs and was not given, or was given and has no use for.
    pub fn new(role: Role, deployment: Option<String>, resource: Option<String>) -> Result<Scope, &'static str> {
        match (role, deployment, resource) {
            (Role::Receive, Some(deployment), Some(resource)) => Ok(Scope::Receive { deployment, resource }),
            (Role::Receive, ..) => Err("a token to receive is for one daemon: it needs deploymentId and resourceId"),
            (Role::Invoke, Some(deployment), None) => Ok(Scope::Invoke { deployment }),
            (Role::Invoke, None, _) => Err("a token to invoke is for one deployment: it needs deploymentId"),
            (Role::Invoke, Some(_), Some(_)) => {
                Err("a token to invoke is for all daemons of a deployment: leave resourceId out")
            }
            (Role::Admin, None, None) => Ok(Scope::Admin),
            (Role::Admin, ..) => Err("an admin's token is for everything: leave deploymentId and resourceId out"),
        }
    }

    pub fn role(&self) -> Role {
        match self {
            Scope::Receive { .. } => Role::Receive,
            Scope::Invoke { .. } => Role::Invoke,
            Scope::Admin => Role::Admin,
        }
    }

    pub fn deployment(&self) -> Option<&str> {
        match self {
            Scope::Receive { deployment, .. } | Scope::Invoke { deployment } => Some(deployment),
            Scope::Admin => None,
        }
    }

    pub fn resource(&self) -> Option<&str> {
        match self {
            Scope::Receive { resource, .. } => Some(resource),
            _ => None,
        }
    }

    /// Whether it may make commands in a deployment, and see them.
    pub fn may_invoke(&self, in_deployment: &str) -> bool {
        match self {
            Scope::Admin => true,
            Scope::Invoke { deployment } => deployment == in_deployment,
            Scope::Receive { .. } => false,
        }
    }

    /// Whether it may take the commands of a daemon.
    pub fn may_receive(&self, of_deployment: &str, of_resource: &str) -> bool {
        matches!(self, Scope::Receive { deployment, resource } if deployment == of_deployment && resource == of_resource)
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `tok_<random>`, for lists and revocation; not the token.
    pub id: String,
    pub hash: [u8; 32],
    pub scope: Scope,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
}

impl Record {
    /// Whether it still lets do something.
    pub fn is_valid(&self, now: Millis) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

/// The hash that is kept of a token.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Random bytes as text for URLs.
///
/// # Errors
/// Where the kernel has none to give.
pub fn random_text(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new().fill(&mut buffer).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}
