//! The tokens that there are, in memory, as the store has them.

use super::clock::Millis;
use super::store::{Broken, Store};
use super::tokens::{Record, Role, Scope, hash, random_text};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes of chance in a token: nobody guesses them, so a plain hash keeps them.
const RANDOM: usize = 32;
/// And in its name, which only tells it from others.
const NAME: usize = 9;
/// The name of the token that came in a file: whoever has the file has it, and nothing here revokes it.
const FROM_FILE: &str = "tok_file";

/// Every token there is, by its hash: looking one up tells nothing about how near a guess was.
#[derive(Default)]
pub struct Tokens(RwLock<All>);

type All = HashMap<[u8; 32], Record>;

impl Tokens {
    /// Those of the store, and the one that comes from outside, for who has it in a file.
    pub async fn load(store: &dyn Store, admin: Option<&str>) -> Result<Tokens, Broken> {
        let mut all: HashMap<_, _> = store.tokens().await?.into_iter().map(|record| (record.hash, record)).collect();
        if let Some(token) = admin {
            let record = Record {
                id: FROM_FILE.to_owned(),
                hash: hash(token),
                scope: Scope::Admin,
                created_at: 0,
                expires_at: None,
            };
            all.insert(record.hash, record);
        }
        Ok(Tokens(RwLock::new(all)))
    }

    fn all(&self) -> RwLockReadGuard<'_, All> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> RwLockWriteGuard<'_, All> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a token lets do, while it is valid.
    pub fn scope(&self, token: &str, now: Millis) -> Option<Scope> {
        let all = self.all();
        let record = all.get(&hash(token))?;
        record.is_valid(now).then(|| record.scope.clone())
    }

    /// Makes a token; gives it, which is said this once only.
    pub async fn create(
        &self,
        store: &dyn Store,
        scope: Scope,
        now: Millis,
        expires_at: Option<Millis>,
    ) -> Result<(String, Record), Broken> {
        let broken = |error: std::io::Error| Broken(error.to_string());
        let token = format!("alien_{}_{}", scope.role().as_str(), random_text(RANDOM).map_err(broken)?);
        let record = Record {
            id: format!("tok_{}", random_text(NAME).map_err(broken)?),
            hash: hash(&token),
            scope,
            created_at: now,
            expires_at,
        };
        store.add_token(record.clone()).await?;
        self.all_mut().insert(record.hash, record.clone());
        Ok((token, record))
    }

    /// Revokes a token; whether there was one.
    pub async fn revoke(&self, store: &dyn Store, id: &str) -> Result<bool, Broken> {
        let there = store.remove_token(id).await?;
        self.all_mut().retain(|_, record| record.id != id || record.id == FROM_FILE);
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
        self.all_mut().retain(|_, record| !ids.contains(&record.id));
        Ok(ids.len())
    }

    /// All, the oldest first.
    pub fn list(&self) -> Vec<Record> {
        let all = self.all();
        let mut records: Vec<Record> = all.values().cloned().collect();
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    /// The daemons of a deployment that take commands: those that somebody may receive for.
    pub fn targets(&self, of_deployment: &str, now: Millis) -> Vec<String> {
        let all = self.all();
        let valid = all.values().filter(|record| record.is_valid(now));
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
