//! Who may do what: tokens, random and kept as hashes only, each for one role in one place.

use super::command::Millis;
use super::store::{Broken, Store};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Bytes of chance in a token: nobody guesses them, so a plain hash keeps them.
const RANDOM: usize = 32;

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

/// The hash that is kept of a token.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Random bytes as text for URLs.
///
/// # Errors
/// Where the kernel has none to give.
pub fn random_text(bytes: usize) -> Result<String, Broken> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new().fill(&mut buffer).map_err(|_| Broken("no random numbers".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}

/// Every token there is, by its hash: looking one up tells nothing about how near a guess was.
#[derive(Default)]
pub struct Tokens(RwLock<HashMap<[u8; 32], Record>>);

impl Tokens {
    /// Those of the store, and the one that comes from outside, for who has it in a file.
    pub async fn load(store: &dyn Store, admin: Option<&str>) -> Result<Tokens, Broken> {
        let mut all: HashMap<_, _> = store.tokens().await?.into_iter().map(|record| (record.hash, record)).collect();
        if let Some(token) = admin {
            let record = Record {
                id: "tok_file".to_owned(),
                hash: hash(token),
                scope: Scope::Admin,
                created_at: 0,
                expires_at: None,
            };
            all.insert(record.hash, record);
        }
        Ok(Tokens(RwLock::new(all)))
    }

    /// What a token lets do, while it is valid.
    pub fn scope(&self, token: &str, now: Millis) -> Option<Scope> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let record = all.get(&hash(token))?;
        record.expires_at.is_none_or(|at| now < at).then(|| record.scope.clone())
    }

    /// Makes a token; gives it, which is said this once only.
    pub async fn create(
        &self,
        store: &dyn Store,
        scope: Scope,
        now: Millis,
        expires_at: Option<Millis>,
    ) -> Result<(String, Record), Broken> {
        let token = format!("alien_{}_{}", scope.role().as_str(), random_text(RANDOM)?);
        let record =
            Record { id: format!("tok_{}", random_text(9)?), hash: hash(&token), scope, created_at: now, expires_at };
        store.add_token(record.clone()).await?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(record.hash, record.clone());
        Ok((token, record))
    }

    /// Revokes a token; whether there was one.
    pub async fn revoke(&self, store: &dyn Store, id: &str) -> Result<bool, Broken> {
        let there = store.remove_token(id).await?;
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, record| record.id != id || record.id == "tok_file");
        Ok(there)
    }

    /// Revokes every token of a role in a deployment, for one daemon or for all; how many there were.
    pub async fn revoke_all(
        &self,
        store: &dyn Store,
        role: Role,
        deployment: &str,
        resource: Option<&str>,
    ) -> Result<usize, Broken> {
        let ids = store.remove_tokens(role, deployment, resource).await?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, record| !ids.contains(&record.id));
        Ok(ids.len())
    }

    /// All, the oldest first.
    pub fn list(&self) -> Vec<Record> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<Record> = all.values().cloned().collect();
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    /// The daemons of a deployment that take commands: those that somebody may receive for.
    pub fn targets(&self, of_deployment: &str, now: Millis) -> Vec<String> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let valid = all.values().filter(|record| record.expires_at.is_none_or(|at| now < at));
        let mut targets: Vec<String> = valid
            .filter_map(|record| match &record.scope {
                Scope::Receive { deployment, resource } if deployment == of_deployment => Some(resource.clone()),
                _ => None,
            })
            .collect();
        targets.sort();
        targets.dedup();
        targets
    }
}
