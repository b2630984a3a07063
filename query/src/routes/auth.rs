//! Logging in and out.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{By, ErrorKind, NewSession, Rotation, User};
use acuvim_schemas::{
    api::{
        LoginRequest, LoginResponse, Me, NewUser, PasswordRequest, RefreshRequest, Role,
        UserAccount,
    },
    problem::{Code, Problem},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;

use crate::{
    App,
    auth::{Caller, check_new_password, hashed, info, now, request_id, verify_password},
    checks,
    guard::{ClientAddress, retry_after},
    live::end_login,
    problem::{ApiError, Body},
};

/// The user that is made at the first start.
const FIRST_ADMIN: &str = "admin";

/// Log in with user name and password.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem),
        (status = 429, body = Problem)))]
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    Body(request): Body<LoginRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let name = request.username;
    let turn = app.throttle.admit(address, &name).await.map_err(throttled)?;
    let known = app.control().user_by_name(&name).await?;
    let user = known.clone().filter(|user| user.account.enabled);
    let hash = user.as_ref().map(|u| u.password_hash.clone());
    let right = verify_password(&app, request.password, hash).await?;
    let Some(user) = user.filter(|_| right) else {
        turn.failed(Instant::now());
        refused(&app, known.as_ref(), &someone(address, &headers), "user.login_failed").await?;
        return Err(ApiError::new(Code::Unauthorized, "the user name or the password is wrong"));
    };
    turn.succeeded(Instant::now());
    let expires_at = Utc::now() + app.parts.jwt.refresh;
    let by = logging_in(&user, address, &headers);
    let (id, version) = (user.account.id, user.session_version);
    match app.control().start_session(id, version, expires_at, &by).await? {
        Some(session) => answer(&app, &user, session),
        // The password was changed while it was checked.
        None => Err(ApiError::new(Code::Unauthorized, "the user name or the password is wrong")),
    }
}

fn throttled(wait: Duration) -> ApiError {
    metrics::counter!("acuvim_throttled_logins_total").increment(1);
    retry_after(wait, "too many wrong passwords, or too many logins at once")
}

/// Notes a wrong password. The name of nobody is not kept: it may be a password that was typed into the
/// wrong field.
async fn refused(app: &App, user: Option<&User>, by: &By, action: &str) -> Result<(), ApiError> {
    metrics::counter!("acuvim_refused_logins_total").increment(1);
    let (name, id) = match user {
        Some(user) => (user.account.username.clone(), user.account.id.to_string()),
        None => (by.name.clone(), by.name.clone()),
    };
    let address = by.address.as_deref().unwrap_or_default();
    tracing::info!(user = name, address, action, "a password was wrong");
    let by = By { name, ..by.clone() };
    Ok(app.control().note(&by, action, &id, serde_json::json!({})).await?)
}

fn logging_in(user: &User, address: IpAddr, headers: &HeaderMap) -> By {
    let (id, name) = (Some(user.account.id), user.account.username.clone());
    By { id, name, ..someone(address, headers) }
}

/// Who has not said yet, or not shown, who they are.
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
    State(app): State<Arc<App>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let by = someone(address, &headers);
    let expires_at = by.at + app.parts.jwt.refresh;
    let rotation = app.control().rotate_session(&request.refresh_token, expires_at, &by);
    let refused = |detail: &str| Err(ApiError::new(Code::Unauthorized, detail));
    match rotation.await? {
        Rotation::Rotated { user_id, family, version, token } => {
            let user = app.control().user(user_id).await?;
            match user.filter(|u| u.account.enabled && u.session_version == version) {
                Some(user) => answer(&app, &user, NewSession { family, token }),
                None => refused("the session has ended; log in again"),
            }
        }
        Rotation::Reused(family) => {
            end_login(&app, family);
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
    State(app): State<Arc<App>>,
    Body(request): Body<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    if let Some(family) = app.control().end_session(&request.refresh_token).await? {
        end_login(&app, family);
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
    State(app): State<Arc<App>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    caller: Caller,
    Body(request): Body<PasswordRequest>,
) -> Result<StatusCode, ApiError> {
    check_new_password("new_password", &request.new_password, &caller.user.username)?;
    let user = app.control().user(caller.user.id).await?.filter(|_| caller.is_user);
    let Some(user) = user else {
        return Err(ApiError::new(Code::Forbidden, "a key has no password"));
    };
    // Who has a token of theirs must not find out their password with it.
    let name = &user.account.username;
    let turn = app.throttle.admit(address, name).await.map_err(throttled)?;
    let hash = Some(user.password_hash.clone());
    if !verify_password(&app, request.current_password, hash).await? {
        turn.failed(Instant::now());
        refused(&app, Some(&user), &caller.by(), "user.password_failed").await?;
        return Err(ApiError::field("current_password", "is wrong"));
    }
    turn.succeeded(Instant::now());
    let hash = hashed(&app, request.new_password).await?;
    app.control().set_password(user.account.id, &hash, &caller.by()).await?;
    forget_initial_password(&app, &user.account.username).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the file with the first admin's password once that holds no more. Where another process has
/// the file, its next start does.
pub(super) async fn forget_initial_password(app: &App, username: &str) {
    if username != FIRST_ADMIN {
        return;
    }
    let file = &app.parts.initial_password;
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
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserAccount>), ApiError> {
    caller.require_all(Role::Admin)?;
    checks::username(&new.username)?;
    checks::scope(new.scope.as_ref())?;
    check_new_password("password", &new.password, &new.username)?;
    let hash = hashed(&app, new.password).await?;
    let by = caller.by();
    match app.control().create_user(&new.username, &hash, new.role, new.scope, &by).await {
        Ok(user) => Ok((StatusCode::CREATED, Json(user.account))),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            Err(ApiError::new(Code::Conflict, "there is a user of that name"))
        }
        Err(error) => Err(error.into()),
    }
}

fn answer(app: &App, user: &User, session: NewSession) -> Result<Json<LoginResponse>, ApiError> {
    let jwt = &app.parts.jwt;
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
