//! Who asks.

use super::{Answer, Manager};
use crate::commands::clock::now;
use crate::commands::tokens::Scope;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use std::sync::Arc;

/// What whoever asks may do.
pub struct Caller(pub Scope, String);

impl FromRequestParts<Arc<Manager>> for Caller {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager>) -> Result<Self, Answer> {
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            given.and_then(|given| given.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let scope = token.and_then(|(_, token)| manager.tokens.scope(token.trim(), now()));
        let (_, token) = token.unwrap_or_default();
        scope.map(|scope| Caller(scope, token.trim().to_owned())).ok_or_else(Answer::unauthorized)
    }
}

impl Caller {
    /// # Errors
    /// 401 for whoever's token was revoked, or has run out, while it waited.
    pub fn must_still_be(&self, manager: &Manager) -> Result<(), Answer> {
        manager.tokens.scope(&self.1, now()).map(drop).ok_or_else(Answer::unauthorized)
    }

    /// # Errors
    /// 403 for whoever may not make commands there.
    pub fn must_invoke(&self, deployment: &str) -> Result<(), Answer> {
        if self.0.may_invoke(deployment) { Ok(()) } else { Err(Answer::forbidden()) }
    }

    /// # Errors
    /// 403 for whoever may not take that daemon's commands.
    pub fn must_receive(&self, deployment: &str, resource: &str) -> Result<(), Answer> {
        if self.0.may_receive(deployment, resource) { Ok(()) } else { Err(Answer::forbidden()) }
    }

    /// # Errors
    /// 403 for all others.
    pub fn must_administer(&self) -> Result<(), Answer> {
        if self.0 == Scope::Admin { Ok(()) } else { Err(Answer::forbidden()) }
    }
}
