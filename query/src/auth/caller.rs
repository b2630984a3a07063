//! The caller of a request, from whichever of its headers says who it is.

use std::{net::IpAddr, sync::Arc};

use acuvim_control::By;
use acuvim_schemas::{
    api::{Role, Scope, UserAccount, UserInfo},
    problem::Code,
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    App,
    guard::{ClientAddress, retry_after},
    problem::ApiError,
};

/// What every API key begins with, so that it is told from a JWT.
const KEY_PREFIX: &str = "acv_";

/// Who asks. A handler that takes one is closed to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub user: UserInfo,
    /// The devices it sees; none: all.
    pub scope: Option<Scope>,
    /// Whether it is a person with a session, and not a key.
    pub is_user: bool,
    /// The login that a person's token comes from.
    pub family: Option<Uuid>,
    /// The session version that a person's token was made for.
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

    /// Refuses callers below a role, and those who do not see every device: what they do here
    /// reaches beyond what they see.
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

    /// For the audit.
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

/// This moment, to the millisecond, as answers show it and as every database keeps it.
pub(crate) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = token(&parts.headers).ok_or_else(|| {
            ApiError::new(
                Code::Unauthorized,
                "send Authorization: Bearer with a token from /api/auth/login or an API key",
            )
        })?;
        caller_of(app, &token, parts).await
    }
}

/// Who a token or key is of, as far as it is good.
pub(crate) async fn caller_of(app: &App, token: &str, parts: &Parts) -> Result<Caller, ApiError> {
    let caller = if token.starts_with(KEY_PREFIX) {
        by_key(app, token).await?
    } else {
        by_token(app, token).await?
    };
    let mut caller = caller.ok_or_else(|| {
        ApiError::new(Code::Unauthorized, "the token or key is not valid, or has expired")
    })?;
    app.guard
        .rates
        .user(caller.user.id)
        .map_err(|wait| retry_after(wait, "too many requests of this user or key"))?;
    caller.address = parts.extensions.get::<ClientAddress>().map(|address| address.0);
    caller.request = request_id(&parts.headers);
    Ok(caller)
}

/// The request's id, as far as it is fit to be kept.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    Some(id.chars().take(64).collect())
}

/// The role is the one the user has now, not the one the token was made with.
async fn by_token(app: &App, token: &str) -> Result<Option<Caller>, ApiError> {
    let Some(session) = app.parts.jwt.check(token) else { return Ok(None) };
    let user = app.control().session_user(session.user.id, session.family).await?;
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

pub(crate) fn info(account: &UserAccount) -> UserInfo {
    UserInfo { id: account.id, username: account.username.clone(), role: account.role }
}

async fn by_key(app: &App, secret: &str) -> Result<Option<Caller>, ApiError> {
    let key = app.control().key_by_secret(secret, Utc::now()).await?;
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

/// Bearer, X-Api-Key, or Basic with the key as password.
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
mod tests {
    use super::*;

    fn token_of(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        token(&headers)
    }

    #[test]
    fn three_ways_to_say_who_asks() {
        assert_eq!(token_of("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token_of("authorization", "bearer  abc").as_deref(), Some("abc"));
        assert_eq!(token_of("x-api-key", "acv_1").as_deref(), Some("acv_1"));
        let basic = format!("Basic {}", STANDARD.encode("anyone:acv_1"));
        assert_eq!(token_of("authorization", &basic).as_deref(), Some("acv_1"));
        for bad in ["", "Bearer", "Digest x", "Basic !!", "Basic YWJj"] {
            assert_eq!(token_of("authorization", bad), None, "{bad}");
        }
    }
}
