//! Logging in and out.

use std::sync::Arc;

use acuvim_control::{Rotation, User};
use acuvim_schemas::{
    api::{LoginRequest, LoginResponse, PasswordRequest, RefreshRequest, UserInfo},
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use chrono::Utc;

use crate::{
    App,
    auth::{Caller, check_new_password, hash_password, verify_password},
    problem::{ApiError, Body},
};

/// Log in with user name and password.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem),
        (status = 400, body = Problem)))]
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Body(request): Body<LoginRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let user = app.control().user_by_name(&request.username).await?;
    let hash = user.as_ref().map(|u| u.password_hash.clone());
    let right = verify_password(&app, request.password, hash).await?;
    let Some(user) = user.filter(|_| right) else {
        metrics::counter!("acuvim_refused_logins_total").increment(1);
        return Err(ApiError::new(Code::Unauthorized, "the user name or the password is wrong"));
    };
    let expires_at = Utc::now() + app.parts.jwt.refresh;
    let refresh_token = app.control().start_session(user.id, expires_at).await?;
    answer(&app, user, refresh_token)
}

/// Exchange a refresh token for new tokens. Each is good once; using one twice ends the session.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", security(()),
    request_body = RefreshRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem)))]
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<LoginResponse>, ApiError> {
    let now = Utc::now();
    let rotation =
        app.control().rotate_session(&request.refresh_token, now, now + app.parts.jwt.refresh);
    let refused = |detail: &str| Err(ApiError::new(Code::Unauthorized, detail));
    match rotation.await? {
        Rotation::Rotated { user_id, token } => match app.control().user(user_id).await? {
            Some(user) => answer(&app, user, token),
            None => refused("the user is gone"),
        },
        Rotation::Reused => {
            tracing::info!("a refresh token was used twice; its session is ended");
            refused("the refresh token was used before; log in again")
        }
        Rotation::Unknown => refused("the refresh token is unknown or has expired; log in again"),
    }
}

/// End the session that a refresh token belongs to.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", security(()),
    request_body = RefreshRequest, responses((status = 204)))]
pub(super) async fn logout(
    State(app): State<Arc<App>>,
    Body(request): Body<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    app.control().end_session(&request.refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who the token or key belongs to.
#[utoipa::path(get, path = "/api/auth/me", tag = "auth",
    responses((status = 200, body = UserInfo), (status = 401, body = Problem)))]
pub(super) async fn me(caller: Caller) -> Json<UserInfo> {
    Json(caller.user)
}

/// Change the own password; ends all sessions of the user.
#[utoipa::path(post, path = "/api/auth/password", tag = "auth", request_body = PasswordRequest,
    responses((status = 204), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub(super) async fn password(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(request): Body<PasswordRequest>,
) -> Result<StatusCode, ApiError> {
    check_new_password(&request.new_password)?;
    let user = app.control().user(caller.user.id).await?.filter(|_| caller.is_user);
    let Some(user) = user else {
        return Err(ApiError::new(Code::Forbidden, "a key has no password"));
    };
    if !verify_password(&app, request.current_password, Some(user.password_hash)).await? {
        return Err(ApiError::field("current_password", "is wrong"));
    }
    let new = request.new_password;
    let hash = tokio::task::spawn_blocking(move || hash_password(&new))
        .await
        .map_err(|e| ApiError::internal(&e))?
        .map_err(|e| ApiError::internal(&e))?;
    app.control().set_password(user.id, &hash).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(app: &App, user: User, refresh_token: String) -> Result<Json<LoginResponse>, ApiError> {
    let jwt = &app.parts.jwt;
    let access_token = jwt.issue(&user, Utc::now()).map_err(|e| ApiError::internal(&e))?;
    Ok(Json(LoginResponse {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: u64::try_from(jwt.access.num_seconds()).unwrap_or(0),
        refresh_token,
        user: UserInfo { id: user.id, username: user.username, role: user.role },
    }))
}
