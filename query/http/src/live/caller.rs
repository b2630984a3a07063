//! Who opens a live connection.

use acuvim_model::problem::Code;
use acuvim_query_live::{Live, Login, Subscriber};
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use crate::{
    auth::{Authenticator, Caller, token},
    problem::ApiError,
};

/// A caller whose token may also be in the URL: neither `EventSource` nor `WebSocket` can set headers in a
/// browser.
#[derive(Debug)]
pub(crate) struct LiveCaller(pub Caller);

impl LiveCaller {
    /// The caller as live connections know it.
    pub(crate) fn into_subscriber(self) -> Subscriber {
        let Self(Caller { user, scope, family, session_version, expires_at, .. }) = self;
        let login = family.map(|family| Login { family, session_version });
        Subscriber { id: user.id, scope, login, expires_at }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LiveCaller
where
    Authenticator: FromRef<S>,
    Live: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        check_origin(&parts.headers, &Live::from_ref(state).limits().origins)?;
        let token = token(&parts.headers).or_else(|| in_query(parts.uri.query()?));
        let token = token.ok_or_else(|| {
            let detail = "send a token from /api/auth/login or an API key, as Authorization: Bearer \
                          or as access_token in the query";
            ApiError::new(Code::Unauthorized, detail)
        })?;
        Ok(Self(Authenticator::from_ref(state).caller(&token, parts).await?))
    }
}

fn in_query(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned())
}

/// Refuses web pages of other origins: a browser sends a user's credentials along whichever page asks it to.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_ours = origin.split_once("://").is_some_and(|(_, at)| Some(at) == host);
    if is_ours || allowed.iter().any(|one| one == origin) {
        return Ok(());
    }
    let detail = format!("web pages of {origin} may not connect; http.cors_origins can let them");
    Err(ApiError::new(Code::Forbidden, detail))
}

#[cfg(test)]
mod tests;
