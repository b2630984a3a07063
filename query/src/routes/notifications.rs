//! Notifications: who is told of what happens, and what became of each message.

use std::{sync::Arc, time::Duration};

use acuvim_control::NotificationMade;
use acuvim_schemas::{
    api::{
        CreatedNotification, Delivery, DeliveryState, Notification, NotificationBody, Page, Role,
    },
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{NoParams, next_cursor, page_limit};
use crate::{
    App,
    auth::{Caller, now},
    checks,
    problem::{ApiError, Body, Params},
};

/// How long a test waits for what becomes of it.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

fn none() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such notification")
}

/// All notifications, by name. Admins without a scope.
#[utoipa::path(get, path = "/api/notifications", tag = "notifications",
    responses((status = 200, body = Page<Notification>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Notification>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let items = app.control().notifications().await?;
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(Json(Page { items, total, next_cursor: None }))
}

/// Tell somebody of alerts, offline devices, rollouts and faults of the system: by webhook or mail. A
/// webhook's secret is shown in the answer, once.
#[utoipa::path(post, path = "/api/notifications", tag = "notifications",
    request_body = NotificationBody,
    responses((status = 201, body = CreatedNotification), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(mut body): Body<NotificationBody>,
) -> Result<(StatusCode, Json<CreatedNotification>), ApiError> {
    caller.require_all(Role::Admin)?;
    checks::notification(&mut body, &app.parts.webhook_hosts)?;
    match app.control().create_notification(&body, &caller.by()).await? {
        NotificationMade::Done(made) => Ok((StatusCode::CREATED, Json(*made))),
        NotificationMade::Taken => {
            Err(ApiError::new(Code::Conflict, "another notification has this name"))
        }
        NotificationMade::TooMany => Err(ApiError::new(
            Code::Refused,
            "there are as many notifications as there may be: 200",
        )),
    }
}

/// One notification.
#[utoipa::path(get, path = "/api/notifications/{id}", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id")),
    responses((status = 200, body = Notification), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Notification>, ApiError> {
    caller.require_all(Role::Admin)?;
    find(&app, &id).await.map(Json)
}

async fn find(app: &App, id: &str) -> Result<Notification, ApiError> {
    let id: Uuid = id.parse().map_err(|_| none())?;
    app.control().notification(id).await?.ok_or_else(none)
}

/// End a notification; what waits to be sent for it is not.
#[utoipa::path(delete, path = "/api/notifications/{id}", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let id: Uuid = id.parse().map_err(|_| none())?;
    match app.control().delete_notification(id, &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(none()),
    }
}

/// Send a test now, and say what became of it: 200 with the outcome, or 202 while it is being tried.
#[utoipa::path(post, path = "/api/notifications/{id}/test", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id")),
    responses((status = 200, body = Delivery), (status = 202, body = Delivery),
        (status = 404, body = Problem)))]
pub(super) async fn test(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    caller.require_all(Role::Admin)?;
    let notification = find(&app, &id).await?;
    let by = &caller.user.username;
    let notice = app.control().test_notice(notification.id, by, now()).await?;
    let begun = tokio::time::Instant::now();
    loop {
        let delivery = app.control().delivery(notice).await?.ok_or_else(none)?;
        // The first attempt says what there is to know.
        if delivery.state != DeliveryState::Waiting || delivery.answer.is_some() {
            return Ok((StatusCode::OK, Json(delivery)));
        }
        if begun.elapsed() > PATIENCE {
            return Ok((StatusCode::ACCEPTED, Json(delivery)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryParams {
    /// Messages of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
}

/// The messages of a notification and what became of each, newest first.
#[utoipa::path(get, path = "/api/notifications/{id}/deliveries", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id"), DeliveryParams),
    responses((status = 200, body = Page<Delivery>), (status = 404, body = Problem)))]
pub(super) async fn deliveries(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let limit = page_limit(params.limit)?;
    let notification = find(&app, &id).await?;
    let (items, total) = app.control().deliveries(notification.id, params.cursor, limit).await?;
    let next_cursor = next_cursor(&items, limit, |delivery| delivery.id.to_string());
    Ok(Json(Page { items, total, next_cursor }))
}
