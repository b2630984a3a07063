//! Users, and the audit of changes.

use acuvim_control::{AuditFilter, Control, UserChange, UserChanged};
use acuvim_model::{
    AuditEntry, Page, Role, UserAccount, UserEdit,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    auth::forget_initial_password,
    list::{List, PagesByName, moment, page, paged},
    resource::Resource,
};
use crate::{
    auth::{Caller, check_new_password},
    checks,
    extract::{Body, Path, editable},
    problem::ApiError,
    state::Logins,
};

const USER: Resource = Resource("user");

/// The users, by name.
#[utoipa::path(get, path = "/api/users", tag = "users", params(PagesByName),
    responses((status = 200, body = Page<UserAccount>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    List { params, limit }: List<PagesByName>,
) -> Result<Json<Page<UserAccount>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let (items, total) = control.users(params.cursor.as_deref(), limit).await?;
    Ok(page(items, total, limit, |user| user.username.clone()))
}

/// One user.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses((status = 200, body = UserAccount), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<UserAccount>, ApiError> {
    caller.require_all(Role::Admin)?;
    let id = USER.id(&id)?;
    let user = USER.found(control.user(id).await?)?;
    Ok(Json(user.account))
}

/// Change a user's role, scope, password, or whether they can log in. Ends their sessions. The last
/// admin stays one.
#[utoipa::path(put, path = "/api/users/{id}", tag = "users", request_body = UserEdit,
    params(("id" = Uuid, Path, description = "The user's id")),
    responses((status = 200, body = UserAccount), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn put(
    State(control): State<Control>,
    State(logins): State<Logins>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<UserAccount>, ApiError> {
    caller.require_all(Role::Admin)?;
    let id = USER.id(&id)?;
    let edit: UserEdit = editable(body, &["id", "username", "created_at"])?;
    checks::scope(edit.scope.as_ref())?;
    // The name is needed before the password is hashed: the password must not contain it.
    let user = USER.found(control.user(id).await?)?;
    let password_hash = match edit.password {
        Some(password) => {
            check_new_password("password", &password, &user.account.username)?;
            Some(logins.passwords.hash(password).await?)
        }
        None => None,
    };
    let has_new_password = password_hash.is_some();
    let (role, scope, enabled) = (edit.role, edit.scope, edit.enabled);
    let change = UserChange { role, scope, enabled, password_hash };
    changed(control.change_user(id, &change, &caller.by()).await?)?;
    if has_new_password {
        // Only once the new password is stored: until then the file has the one that is valid.
        forget_initial_password(&logins, &user.account.username).await;
    }
    let user = USER.found(control.user(id).await?)?;
    Ok(Json(user.account))
}

/// Remove a user and end their sessions. The last admin can't be removed.
#[utoipa::path(delete, path = "/api/users/{id}", tag = "users",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses((status = 204), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    State(logins): State<Logins>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let id = USER.id(&id)?;
    let user = USER.found(control.user(id).await?)?;
    changed(control.delete_user(id, &caller.by()).await?)?;
    forget_initial_password(&logins, &user.account.username).await;
    Ok(StatusCode::NO_CONTENT)
}

fn changed(outcome: UserChanged) -> Result<(), ApiError> {
    match outcome {
        UserChanged::Done => Ok(()),
        UserChanged::NotFound => Err(USER.missing()),
        UserChanged::LastAdmin => Err(ApiError::new(
            Code::Refused,
            "they are the last admin who can log in and sees every device; make another first",
        )),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// Only what this user or key did.
    actor: Option<String>,
    /// Only this action, such as `device.update`.
    action: Option<String>,
    /// Only what was done to this device, group, user or key.
    object: Option<String>,
    /// Only from this time on.
    from: Option<String>,
    /// Only before this time.
    to: Option<String>,
}

paged!(AuditParams);

/// Who changed what, from where; newest first.
#[utoipa::path(get, path = "/api/audit", tag = "users", params(AuditParams),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(super) async fn audit(
    State(control): State<Control>,
    caller: Caller,
    List { params, limit }: List<AuditParams>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let filter = AuditFilter {
        actor: params.actor,
        action: params.action,
        object: params.object,
        from: params.from.map(|text| moment("from", &text)).transpose()?,
        to: params.to.map(|text| moment("to", &text)).transpose()?,
        before: params.cursor,
        limit,
    };
    let (items, total) = control.audit(&filter).await?;
    Ok(page(items, total, limit, |entry| entry.id.to_string()))
}
