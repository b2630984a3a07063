//! Who may connect, what they see, and whether that still holds: a connection outlives the request
//! that it began with, and must not outlive the right that it began with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_schemas::{api::Scope, problem::Code};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    hub::{Closing, Connection},
    outbound::{Asked, Visible},
};
use crate::{
    App,
    auth::{Caller, caller_of, token},
    problem::ApiError,
};

/// A caller who may also say who they are in the URL: neither `EventSource` nor `WebSocket` can set
/// headers in a browser.
#[derive(Debug)]
pub(crate) struct LiveCaller(pub Caller);

impl FromRequestParts<Arc<App>> for LiveCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        check_origin(&parts.headers, &app.hub.limits.origins)?;
        let token = token(&parts.headers).or_else(|| in_query(parts.uri.query()?));
        let token = token.ok_or_else(|| {
            let detail = "send a token from /api/auth/login or an API key, as Authorization: Bearer \
                          or as access_token in the query";
            ApiError::new(Code::Unauthorized, detail)
        })?;
        Ok(Self(caller_of(app, &token, parts).await?))
    }
}

fn in_query(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned())
}

/// Refuses web pages of other origins: a browser sends along who is logged in there, whoever asks.
pub(crate) fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let ours = origin.split_once("://").is_some_and(|(_, at)| Some(at) == host);
    if ours || allowed.iter().any(|one| one == origin) {
        return Ok(());
    }
    let detail = format!("web pages of {origin} may not connect; http.cors_origins can let them");
    Err(ApiError::new(Code::Forbidden, detail))
}

/// The devices that a scope sees.
pub(super) async fn visible(
    app: &App,
    scope: Option<&Scope>,
) -> Result<Visible, acuvim_control::Error> {
    let Some(scope) = scope else { return Ok(None) };
    let ids = app.control().scoped_device_ids(scope).await?;
    Ok(Some(Arc::new(ids.into_iter().map(Arc::from).collect())))
}

/// The devices of groups, as far as they were looked up.
pub(super) type Members = HashMap<Uuid, Vec<Arc<str>>>;

/// The devices that a subscription covers, of those that the caller sees.
pub(super) async fn covers(
    app: &App,
    asked: &Asked,
    visible: &Visible,
    groups: &mut Members,
) -> Result<Visible, acuvim_control::Error> {
    if asked.whole {
        return Ok(visible.clone());
    }
    let mut all: HashSet<Arc<str>> = asked.devices.clone();
    for group in &asked.groups {
        if !groups.contains_key(group) {
            let ids = app.control().device_ids_of(Some(*group), None).await?;
            groups.insert(*group, ids.into_iter().map(Arc::from).collect());
        }
        all.extend(groups.get(group).into_iter().flatten().cloned());
    }
    if let Some(visible) = visible {
        all.retain(|id| visible.contains(id));
    }
    Ok(Some(Arc::new(all)))
}

/// Looks at all connections again and again.
pub(super) async fn run(app: &App) {
    loop {
        tokio::time::sleep(app.hub.limits.check_interval).await;
        refresh(app).await;
    }
}

/// Whom a connection is of, and by which login: what holds for one of theirs holds for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Whose {
    id: Uuid,
    /// A person's login and session version; a key has none.
    login: Option<(Uuid, i64)>,
}

/// Closes what is not allowed any more, and brings up to date what the others see.
pub(crate) async fn refresh(app: &App) {
    let mut by_caller: HashMap<Whose, Vec<Arc<Connection>>> = HashMap::new();
    for connection in app.hub.connections() {
        by_caller.entry(whose(&connection)).or_default().push(connection);
    }
    let (now, mut groups) = (Utc::now(), Members::new());
    for (whose, connections) in by_caller {
        if let Err(error) = check(app, whose, &connections, now, &mut groups).await {
            // A database that is away takes no right and gives none.
            tracing::debug!(%error, "live connections can't be checked");
        }
    }
}

/// The same for one connection.
pub(crate) async fn refresh_one(app: &App, connection: &Arc<Connection>) {
    let whose = whose(connection);
    let all = std::slice::from_ref(connection);
    if let Err(error) = check(app, whose, all, Utc::now(), &mut Members::new()).await {
        tracing::debug!(%error, "a live connection can't be checked");
    }
}

fn whose(connection: &Connection) -> Whose {
    let caller = connection.caller();
    let login = caller.family.map(|family| (family, caller.session_version));
    Whose { id: caller.user.id, login }
}

/// Closes the connections of a login that has ended.
pub(crate) fn end_login(app: &App, family: Uuid) {
    let theirs = |c: &Arc<Connection>| c.caller().family == Some(family);
    for connection in app.hub.connections().into_iter().filter(theirs) {
        connection.close(Closing::for_good("the session has ended: log in again"));
    }
}

/// What a caller is now; none if they may not come any more.
async fn still(
    app: &App,
    Whose { id, login }: Whose,
) -> Result<Option<Option<Scope>>, acuvim_control::Error> {
    if let Some((family, version)) = login {
        let user = app.control().session_user(id, family).await?;
        let user = user.filter(|u| u.session_version == version && u.account.enabled);
        return Ok(user.map(|user| user.account.scope));
    }
    Ok(app.control().key(id, Utc::now()).await?.map(|key| key.scope))
}

/// Subscriptions among which one like another is looked for.
const ALIKE: usize = 50;

async fn check(
    app: &App,
    whose: Whose,
    connections: &[Arc<Connection>],
    now: DateTime<Utc>,
    groups: &mut Members,
) -> Result<(), acuvim_control::Error> {
    let expired = |c: &&Arc<Connection>| c.caller().expires_at.is_some_and(|end| end <= now);
    for connection in connections.iter().filter(expired) {
        connection.close(Closing::again("the token has expired: come again with a new one"));
    }
    let Some(scope) = still(app, whose).await? else {
        let reason =
            "the session has ended, or the user or key has changed or is gone: log in again";
        connections.iter().for_each(|c| c.close(Closing::for_good(reason)));
        return Ok(());
    };
    let visible = visible(app, scope.as_ref()).await?;
    // What several subscriptions of a caller ask alike is held once.
    let mut alike: Vec<(Asked, Visible)> = Vec::new();
    for connection in connections.iter().filter(|c| !expired(c)) {
        let asked: Vec<(u64, Asked)> =
            connection.out().asked().map(|(number, asked)| (number, asked.clone())).collect();
        let mut covered = HashMap::new();
        for (number, asked) in asked {
            let same = |(other, _): &&(Asked, Visible)| {
                (asked.whole, &asked.devices, &asked.groups)
                    == (other.whole, &other.devices, &other.groups)
            };
            let covers = match alike.iter().find(same) {
                Some((_, covers)) => covers.clone(),
                None => covers(app, &asked, &visible, groups).await?,
            };
            if alike.len() < ALIKE {
                alike.push((asked, covers.clone()));
            }
            covered.insert(number, covers);
        }
        connection.set_scope(scope.clone());
        connection.out().cover(&covered, visible.is_none());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(origin: Option<&'static str>, allowed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "acuvim.example:5000".parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        let allowed: Vec<String> = allowed.iter().map(|&o| o.to_owned()).collect();
        check_origin(&headers, &allowed).is_ok()
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        assert!(origin(None, &[]), "not a browser");
        assert!(origin(Some("https://acuvim.example:5000"), &[]), "our own, behind a TLS proxy");
        for other in ["https://evil.example", "http://acuvim.example:5001", "null", ""] {
            assert!(!origin(Some(other), &[]), "{other}");
        }
        assert!(origin(Some("https://dash.example"), &["https://dash.example"]));
    }

    #[test]
    fn a_token_is_found_in_the_query() {
        assert_eq!(in_query("id=1&access_token=a.b%2Bc").as_deref(), Some("a.b+c"));
        assert_eq!(in_query("id=1"), None);
    }
}
