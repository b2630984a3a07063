//! The caller of a request, from whichever of its headers says who it is.

use std::sync::Arc;

use acuvim_schemas::{
    api::{Role, UserInfo},
    problem::Code,
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;

use crate::{App, problem::ApiError};

/// What every API key begins with, so that it is told from a JWT.
const KEY_PREFIX: &str = "acv_";

/// Who asks. A handler that takes one is closed to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub user: UserInfo,
    /// Whether it is a person with a session, and not a key.
    pub is_user: bool,
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
        let caller = if token.starts_with(KEY_PREFIX) {
            by_key(app, &token).await?
        } else {
            by_token(app, &token).await?
        };
        caller.ok_or_else(|| {
            ApiError::new(Code::Unauthorized, "the token or key is not valid, or has expired")
        })
    }
}

/// The role is the one the user has now, not the one the token was made with.
async fn by_token(app: &App, token: &str) -> Result<Option<Caller>, ApiError> {
    let Some(session) = app.parts.jwt.check(token) else { return Ok(None) };
    let user = app.control().user(session.user.id).await?;
    Ok(user.filter(|u| u.session_version == session.version).map(|user| Caller {
        user: UserInfo { id: user.id, username: user.username, role: user.role },
        is_user: true,
    }))
}

async fn by_key(app: &App, secret: &str) -> Result<Option<Caller>, ApiError> {
    let key = app.control().key_by_secret(secret, Utc::now()).await?;
    Ok(key.map(|key| Caller {
        user: UserInfo { id: key.id, username: key.name, role: key.role },
        is_user: false,
    }))
}

/// Bearer, X-Api-Key, or Basic with the key as password.
fn token(headers: &HeaderMap) -> Option<String> {
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
