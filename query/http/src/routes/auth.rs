//! Logging in and out.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use acuvim_control::{By, Control, ErrorKind, NewSession, Rotation, User};
use acuvim_model::{
    LoginRequest, LoginResponse, Me, NewUser, PasswordRequest, RefreshRequest, Role, UserAccount,
    problem::{Code, Problem},
};
use acuvim_query_live::Live;
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;

use crate::{
    address::ClientAddress,
    auth::{Caller, check_new_password, info, request_id},
    checks,
    clock::now,
    extract::Body,
    middleware::retry_after,
    problem::ApiError,
    state::Logins,
};

/// The user that is made at the first start.
const FIRST_ADMIN: &str = "admin";

/// Log in with user name and password.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem),
        (status = 429, body = Problem)))]
pub(super) async fn login(
    State(control): State<Control>,
    State(logins): State<Logins>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    Body(request): Body<LoginRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let name = request.username;
    // Before the database and the hash: a wait costs nothing but time.
    let turn = logins.throttle.admit(address, &name).await.map_err(throttled)?;
    let known = control.user_by_name(&name).await?;
    // A disabled user gets the answer of an unknown one.
    let user = known.clone().filter(|user| user.account.enabled);
    let hash = user.as_ref().map(|u| u.password_hash.clone());
    let right = logins.passwords.verify(request.password, hash).await?;
    let Some(user) = user.filter(|_| right) else {
        turn.failed(Instant::now());
        refused(&control, known.as_ref(), &someone(address, &headers), "user.login_failed").await?;
        return Err(ApiError::new(Code::Unauthorized, "the user name or the password is wrong"));
    };
    turn.succeeded(Instant::now());
    let expires_at = Utc::now() + logins.jwt.refresh;
    let by = logging_in(&user, address, &headers);
    let (id, version) = (user.account.id, user.session_version);
    match control.start_session(id, version, expires_at, &by).await? {
        Some(session) => tokens(&logins, &user, session),
        // The password was changed while it was checked.
        None => Err(ApiError::new(Code::Unauthorized, "the user name or the password is wrong")),
    }
}

fn throttled(wait: Duration) -> ApiError {
    metrics::counter!("acuvim_throttled_logins_total").increment(1);
    retry_after(wait, "too many wrong passwords, or too many logins at once")
}

/// Records a wrong password in the audit. A name that no user has is not recorded: it may be a password that
/// was typed into the wrong field.
async fn refused(
    control: &Control,
    user: Option<&User>,
    by: &By,
    action: &str,
) -> Result<(), ApiError> {
    metrics::counter!("acuvim_refused_logins_total").increment(1);
    let (name, id) = match user {
        Some(user) => (user.account.username.clone(), user.account.id.to_string()),
        None => (by.name.clone(), by.name.clone()),
    };
    let address = by.address.as_deref().unwrap_or_default();
    tracing::info!(user = name, address, action, "a password was wrong");
    let by = By { name, ..by.clone() };
    Ok(control.note(&by, action, &id, serde_json::json!({})).await?)
}

fn logging_in(user: &User, address: IpAddr, headers: &HeaderMap) -> By {
    let (id, name) = (Some(user.account.id), user.account.username.clone());
    By { id, name, ..someone(address, headers) }
}

/// A caller who has not proved yet who they are.
fn someone(address: IpAddr, headers: &HeaderMap) -> By {
    let (address, request) = (Some(address.to_string()), request_id(headers));
    By { id: None, name: "unknown".to_owned(), address, request, at: now() }
}

/// Exchange a refresh token for new tokens. Each is good once; using one twice ends the session, its
/// access tokens and live connections too.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", security(()),
    request_body = RefreshRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem)))]
pub(super) async fn refresh(
    State(control): State<Control>,
    State(logins): State<Logins>,
    State(live): State<Live>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let by = someone(address, &headers);
    let expires_at = by.at + logins.jwt.refresh;
    let rotation = control.rotate_session(&request.refresh_token, expires_at, &by);
    let refused = |detail: &str| Err(ApiError::new(Code::Unauthorized, detail));
    match rotation.await? {
        Rotation::Rotated { user_id, family, version, token } => {
            // Read after the exchange: the user may have been disabled since the last one.
            let user = control.user(user_id).await?;
            match user.filter(|u| u.account.enabled && u.session_version == version) {
                Some(user) => tokens(&logins, &user, NewSession { family, token }),
                None => refused("the session has ended; log in again"),
            }
        }
        Rotation::Reused(family) => {
            live.end_login(family);
            tracing::warn!(%address, "a refresh token was used twice; its session is ended");
            refused("the refresh token was used before; log in again")
        }
        Rotation::Unknown => refused("the refresh token is unknown or has expired; log in again"),
    }
}

/// End the session that a refresh token belongs to: its access tokens and live connections end too.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", security(()),
    request_body = RefreshRequest, responses((status = 204)))]
pub(super) async fn logout(
    State(control): State<Control>,
    State(live): State<Live>,
    Body(request): Body<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    if let Some(family) = control.end_session(&request.refresh_token).await? {
        live.end_login(family);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Who the token or key belongs to, and what it sees.
#[utoipa::path(get, path = "/api/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(super) async fn me(caller: Caller) -> Json<Me> {
    Json(Me { user: caller.user, scope: caller.scope })
}

/// Change the own password; ends all sessions of the user.
#[utoipa::path(post, path = "/api/auth/password", tag = "auth", request_body = PasswordRequest,
    responses((status = 204)))]
pub(super) async fn password(
    State(control): State<Control>,
    State(logins): State<Logins>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    caller: Caller,
    Body(request): Body<PasswordRequest>,
) -> Result<StatusCode, ApiError> {
    // A new password that can't be set must not cost an attempt.
    check_new_password("new_password", &request.new_password, &caller.user.username)?;
    let user = control.user(caller.user.id).await?.filter(|_| caller.is_user);
    let Some(user) = user else {
        return Err(ApiError::new(Code::Forbidden, "a key has no password"));
    };
    // A stolen token must not help to guess the password.
    let name = &user.account.username;
    let turn = logins.throttle.admit(address, name).await.map_err(throttled)?;
    let hash = Some(user.password_hash.clone());
    if !logins.passwords.verify(request.current_password, hash).await? {
        turn.failed(Instant::now());
        refused(&control, Some(&user), &caller.by(), "user.password_failed").await?;
        return Err(ApiError::field("current_password", "is wrong"));
    }
    turn.succeeded(Instant::now());
    let hash = logins.passwords.hash(request.new_password).await?;
    control.set_password(user.account.id, &hash, &caller.by()).await?;
    forget_initial_password(&logins, &user.account.username).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the file with the first admin's password once that password is no longer valid. If another process
/// has the file, that process removes it at its next start.
pub(super) async fn forget_initial_password(logins: &Logins, username: &str) {
    if username != FIRST_ADMIN {
        return;
    }
    let file = &logins.initial_password;
    match tokio::fs::remove_file(file).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = %file.display(), "an old password was not removed");
        }
        _ => {}
    }
}

/// Add a user.
#[utoipa::path(post, path = "/api/auth/register", tag = "users", request_body = NewUser,
    responses((status = 201, body = UserAccount), (status = 409, body = Problem)))]
pub(super) async fn register(
    State(control): State<Control>,
    State(logins): State<Logins>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserAccount>), ApiError> {
    caller.require_all(Role::Admin)?;
    checks::username(&new.username)?;
    checks::scope(new.scope.as_ref())?;
    check_new_password("password", &new.password, &new.username)?;
    let hash = logins.passwords.hash(new.password).await?;
    let by = caller.by();
    match control.create_user(&new.username, &hash, new.role, new.scope, &by).await {
        Ok(user) => Ok((StatusCode::CREATED, Json(user.account))),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            Err(ApiError::new(Code::Conflict, "there is a user of that name"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer with a session's tokens.
fn tokens(
    logins: &Logins,
    user: &User,
    session: NewSession,
) -> Result<Json<LoginResponse>, ApiError> {
    let jwt = &logins.jwt;
    let NewSession { family, token: refresh_token } = session;
    let access_token = jwt.issue(user, family, Utc::now()).map_err(|e| ApiError::internal(&e))?;
    Ok(Json(LoginResponse {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: u64::try_from(jwt.access.num_seconds()).unwrap_or(0),
        refresh_token,
        user: info(&user.account),
    }))
}
