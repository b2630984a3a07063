//! The caller of a request, by whichever of its headers has a token or key.

use std::{net::IpAddr, sync::Arc};

use acuvim_control::{By, Control};
use acuvim_model::{Role, Scope, UserAccount, UserInfo, problem::Code};
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::jwt::Jwt;
use crate::{
    address::ClientAddress,
    clock::now,
    middleware::{Rates, retry_after},
    problem::ApiError,
};

/// The beginning of every API key, which tells it from a JWT.
const KEY_PREFIX: &str = "acv_";

/// The user or key that calls. A handler that takes one refuses everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub user: UserInfo,
    /// The devices it sees; none: all.
    pub scope: Option<Scope>,
    /// Whether it is a user with a session, and not a key.
    pub is_user: bool,
    /// The login that a user's token comes from.
    pub family: Option<Uuid>,
    /// The session version that a user's token was made for.
    pub session_version: i64,
    /// When the token or key ends.
    pub expires_at: Option<DateTime<Utc>>,
    address: Option<IpAddr>,
    request: Option<String>,
}

impl Caller {
    /// Refuses callers below a role.
    pub(crate) fn require(&self, role: Role) -> Result<(), ApiError> {
        if self.user.role >= role {
            return Ok(());
        }
        let detail =
            format!("this takes the role {}, you are {}", role.as_str(), self.user.role.as_str());
        Err(ApiError::new(Code::Forbidden, detail))
    }

    /// Refuses callers below a role, and callers with a scope: what they would change here concerns devices
    /// that they do not see.
    pub(crate) fn require_all(&self, role: Role) -> Result<(), ApiError> {
        self.require(role)?;
        match self.scope {
            None => Ok(()),
            Some(_) => {
                let detail = "this takes a user or key without a scope: it concerns every device";
                Err(ApiError::new(Code::Forbidden, detail))
            }
        }
    }

    /// The devices it sees; none: all.
    pub(crate) const fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// The caller as the audit records it.
    pub(crate) fn by(&self) -> By {
        By {
            id: Some(self.user.id),
            name: self.user.username.clone(),
            address: self.address.map(|address| address.to_string()),
            request: self.request.clone(),
            at: now(),
        }
    }
}

/// Finds out whom a token or key belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    pub control: Control,
    pub jwt: Arc<Jwt>,
    pub rates: Arc<Rates>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let token = token(&parts.headers).ok_or_else(|| {
            ApiError::new(
                Code::Unauthorized,
                "send Authorization: Bearer with a token from /api/auth/login or an API key",
            )
        })?;
        Authenticator::from_ref(state).caller(&token, parts).await
    }
}

impl Authenticator {
    /// Whom a token or key belongs to, if it is valid.
    pub(crate) async fn caller(&self, token: &str, parts: &Parts) -> Result<Caller, ApiError> {
        let caller = match token.starts_with(KEY_PREFIX) {
            true => self.by_key(token).await?,
            false => self.by_token(token).await?,
        };
        let mut caller = caller.ok_or_else(|| {
            ApiError::new(Code::Unauthorized, "the token or key is not valid, or has expired")
        })?;
        // Counted only once the token is known to be valid: otherwise a stranger could use up a user's rate.
        self.rates
            .user(caller.user.id)
            .map_err(|wait| retry_after(wait, "too many requests of this user or key"))?;
        caller.address = parts.extensions.get::<ClientAddress>().map(|address| address.0);
        caller.request = request_id(&parts.headers);
        Ok(caller)
    }

    /// The role is the user's role now, and not the one in the token.
    async fn by_token(&self, token: &str) -> Result<Option<Caller>, ApiError> {
        let Some(session) = self.jwt.check(token) else { return Ok(None) };
        let user = self.control.session_user(session.user.id, session.family).await?;
        // A change of password, role or scope raises the version, and so ends the tokens made before it.
        let user = user.filter(|u| u.session_version == session.version && u.account.enabled);
        Ok(user.map(|user| Caller {
            user: info(&user.account),
            scope: user.account.scope,
            is_user: true,
            family: Some(session.family),
            session_version: session.version,
            expires_at: session.expires_at,
            address: None,
            request: None,
        }))
    }

    async fn by_key(&self, secret: &str) -> Result<Option<Caller>, ApiError> {
        let key = self.control.key_by_secret(secret, Utc::now()).await?;
        Ok(key.map(|key| Caller {
            user: UserInfo { id: key.id, username: key.name, role: key.role },
            scope: key.scope,
            is_user: false,
            family: None,
            session_version: 0,
            expires_at: key.expires_at,
            address: None,
            request: None,
        }))
    }
}

/// The request's id, cut to a length that can be kept.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    Some(id.chars().take(64).collect())
}

pub(crate) fn info(account: &UserAccount) -> UserInfo {
    UserInfo { id: account.id, username: account.username.clone(), role: account.role }
}

/// The token or key of a request: from `X-Api-Key`, Bearer, or Basic with the key as password.
pub(crate) fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok().map(str::to_owned);
    }
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(value.trim().to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        decoded.split_once(':').map(|(_, password)| password.to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
