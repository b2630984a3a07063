//! Notifications by webhook and mail, and the outcome of each message.

use std::time::Duration;

use acuvim_control::{Control, NotificationMade};
use acuvim_model::{
    CreatedNotification, Delivery, DeliveryState, Notification, NotificationBody, Page, Role,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    list::{List, NoParams, page, paged, whole},
    resource::Resource,
};
use crate::{
    auth::Caller,
    checks::{self, HostCheck},
    clock::now,
    extract::{Body, Params, Path},
    problem::ApiError,
};

/// How long a test waits for its outcome, and how often it checks for it.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

const NOTIFICATION: Resource = Resource("notification");

/// All notifications, by name. Admins without a scope.
#[utoipa::path(get, path = "/api/notifications", tag = "notifications",
    responses((status = 200, body = Page<Notification>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Page<Notification>>, ApiError> {
    caller.require_all(Role::Admin)?;
    Ok(whole(control.notifications().await?))
}

/// Tell somebody of alerts, offline devices, rollouts and faults of the system: by webhook or mail. A
/// webhook's secret is shown in the answer, once.
#[utoipa::path(post, path = "/api/notifications", tag = "notifications",
    request_body = NotificationBody,
    responses((status = 201, body = CreatedNotification), (status = 409, body = Problem)))]
pub(super) async fn create(
    State(control): State<Control>,
    State(hosts): State<HostCheck>,
    caller: Caller,
    Body(mut body): Body<NotificationBody>,
) -> Result<(StatusCode, Json<CreatedNotification>), ApiError> {
    caller.require_all(Role::Admin)?;
    checks::notification(&mut body, &hosts)?;
    match control.create_notification(&body, &caller.by()).await? {
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
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Notification>, ApiError> {
    caller.require_all(Role::Admin)?;
    find(&control, &id).await.map(Json)
}

async fn find(control: &Control, id: &str) -> Result<Notification, ApiError> {
    NOTIFICATION.found(control.notification(NOTIFICATION.id(id)?).await?)
}

/// End a notification; what waits to be sent for it is not.
#[utoipa::path(delete, path = "/api/notifications/{id}", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let id = NOTIFICATION.id(&id)?;
    NOTIFICATION.deleted(control.delete_notification(id, &caller.by()).await?)
}

/// Send a test now, and say what became of it: 200 with the outcome, or 202 while it is being tried.
#[utoipa::path(post, path = "/api/notifications/{id}/test", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id")),
    responses((status = 200, body = Delivery), (status = 202, body = Delivery),
        (status = 404, body = Problem)))]
pub(super) async fn test(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    caller.require_all(Role::Admin)?;
    let notification = find(&control, &id).await?;
    let by = &caller.user.username;
    // Sent by the job that sends all messages, maybe in another process, so that a test tests that too.
    let notice = control.test_notice(notification.id, by, now()).await?;
    let begun = tokio::time::Instant::now();
    loop {
        let delivery = NOTIFICATION.found(control.delivery(notice).await?)?;
        // The outcome of the first attempt is all that a test tells.
        if delivery.state != DeliveryState::Waiting || delivery.answer.is_some() {
            return Ok((StatusCode::OK, Json(delivery)));
        }
        if begun.elapsed() > PATIENCE {
            return Ok((StatusCode::ACCEPTED, Json(delivery)));
        }
        tokio::time::sleep(POLL).await;
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

paged!(DeliveryParams);

/// The messages of a notification and what became of each, newest first.
#[utoipa::path(get, path = "/api/notifications/{id}/deliveries", tag = "notifications",
    params(("id" = Uuid, Path, description = "The notification's id"), DeliveryParams),
    responses((status = 200, body = Page<Delivery>), (status = 404, body = Problem)))]
pub(super) async fn deliveries(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    List { params, limit }: List<DeliveryParams>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    caller.require_all(Role::Admin)?;
    let notification = find(&control, &id).await?;
    let (items, total) = control.deliveries(notification.id, params.cursor, limit).await?;
    Ok(page(items, total, limit, |delivery| delivery.id.to_string()))
}
