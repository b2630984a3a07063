//! Live: the SignalR hub's doors, and server-sent events.

use std::{sync::Arc, time::Duration};

use acuvim_schemas::{
    api::{HubTransport, Negotiated},
    problem::{Code, Problem},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    App,
    live::{
        LiveCaller, Outlet, Position, Refusal, Refused, Subscribe, Wire, pour,
        signalr::{Session, sse, sse::Delivered, websocket},
    },
    problem::{ApiError, Params},
};

/// The longest token of a connection.
const MOST_TOKEN: usize = 100;

/// How often a stream that has nothing to tell says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = match refusal {
            Refusal::Control(error) => return error.into(),
            Refusal::Hub(Refused::NotReady) => {
                (Code::Unavailable, "the log's events can't be read")
            }
            Refusal::Hub(Refused::Stopping) => (Code::Unavailable, "the server is stopping"),
            Refusal::Hub(Refused::Full) => (
                Code::Unavailable,
                "as many live connections are open as live.max_connections lets",
            ),
            Refusal::Hub(Refused::FullOfCaller) => {
                let detail = "as many live connections of this user or key are open as \
                              live.max_connections_per_user lets";
                (Code::TooManyRequests, detail)
            }
        };
        Self::new(code, detail)
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HubParams {
    /// The connection token that `negotiate` answered.
    id: Option<String>,
    /// A token or key, where headers can't be set. Masked in logs.
    #[serde(rename = "access_token")]
    _access_token: Option<String>,
}

/// Begins a connection of a SignalR client: says where and how.
#[utoipa::path(post, path = "/hubs/devices/negotiate", tag = "live",
    responses((status = 200, body = Negotiated), (status = 403, body = Problem)))]
pub(super) async fn negotiate(_caller: LiveCaller) -> Json<Negotiated> {
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let text = || vec!["Text".to_owned()];
    let transport = |name: &str| HubTransport { transport: name.into(), transfer_formats: text() };
    Json(Negotiated {
        negotiate_version: 1,
        connection_id: token.clone(),
        connection_token: token,
        available_transports: vec![transport("WebSockets"), transport("ServerSentEvents")],
    })
}

/// The SignalR hub: a WebSocket, or server-sent events with `Accept: text/event-stream`. What clients
/// get and call is described in docs/LIVE.md.
#[utoipa::path(get, path = "/hubs/devices", tag = "live", params(HubParams),
    responses((status = 101), (status = 200, content_type = "text/event-stream"),
        (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn hub(
    State(app): State<Arc<App>>,
    LiveCaller(caller): LiveCaller,
    Params(params): Params<HubParams>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let id = caller.user.id;
    if let Ok(upgrade) = upgrade {
        let session = Session::new(&app, Outlet::open(&app, caller, Wire::Hub).await?);
        return Ok(websocket::accept(upgrade, app.hub.limits.record_bytes, session));
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        let detail = "connect with a WebSocket, or ask for text/event-stream";
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let token = token(params.id)?;
    let session = Session::new(&app, Outlet::open(&app, caller, Wire::Hub).await?);
    sse::accept(&app.inboxes, &token, id, session)
        .ok_or_else(|| ApiError::new(Code::Conflict, "this connection token is in use: negotiate"))
}

/// What a client of the hub says, where its transport is server-sent events.
#[utoipa::path(post, path = "/hubs/devices", tag = "live", params(HubParams),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200), (status = 404, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn say(
    State(app): State<Arc<App>>,
    LiveCaller(caller): LiveCaller,
    Params(params): Params<HubParams>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let token = token(params.id)?;
    let most = app.hub.limits.record_bytes * 4;
    let body = axum::body::to_bytes(body, most).await.map_err(|_| {
        ApiError::new(Code::TooLarge, format!("a message has up to {} KB", most >> 10))
    })?;
    match app.inboxes.deliver(&token, caller.user.id, body).await {
        Delivered::Done => Ok(StatusCode::OK),
        Delivered::Unknown => {
            Err(ApiError::new(Code::NotFound, "there is no connection of this token"))
        }
        Delivered::Busy => {
            Err(ApiError::new(Code::Unavailable, "the connection is busy; try again"))
        }
    }
}

fn token(id: Option<String>) -> Result<String, ApiError> {
    id.filter(|id| !id.is_empty() && id.len() <= MOST_TOKEN)
        .ok_or_else(|| ApiError::field("id", "the connectionToken that negotiate answered"))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParams {
    /// Only of these devices, separated by commas.
    device_id: Option<String>,
    /// Only of the devices of these groups, separated by commas.
    group_id: Option<String>,
    /// Only these events, separated by commas: AlertCreated, TelemetryReceived, ...
    types: Option<String>,
    /// Only these readings, separated by commas.
    fields: Option<String>,
    /// Readings of a device a second, at most; 0.2 unless given or devices are named.
    max_rate: Option<f64>,
    /// What the header Last-Event-ID says, for those who can't set it.
    last_event_id: Option<String>,
    /// A token or key, where headers can't be set. Masked in logs.
    #[serde(rename = "access_token")]
    _access_token: Option<String>,
}

/// Events as server-sent events. Those of the log carry an id: with it as Last-Event-ID a client gets
/// what it missed, each once.
#[utoipa::path(get, path = "/api/events", tag = "live", params(EventParams),
    responses((status = 200, content_type = "text/event-stream"), (status = 403, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    LiveCaller(caller): LiveCaller,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let asked = subscription(&params)?;
    let in_header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let since = in_header.or(params.last_event_id).filter(|id| !id.is_empty());
    let mut outlet = Outlet::open(&app, caller, Wire::Sse).await?;
    let connection = Arc::clone(outlet.connection());
    let wrong = |error: String| ApiError::new(Code::BadRequest, error);
    let (what, covers) = asked.covers(&app, &connection).await.map_err(wrong)?;
    connection.out().subscribe(what, covers).map_err(wrong)?;
    match since {
        None => {
            // Without data it is no event to the client, and its id counts all the same.
            let first = format!("retry: 2000\nid: {}\n\n", connection.joined.encode());
            outlet.begin_with(first.into());
        }
        Some(since) => {
            // One that is no position is so far back that nothing is known of it.
            let since = Position::decode(&since).unwrap_or_default();
            outlet.begin_with(Bytes::from_static(b"retry: 2000\n\n"));
            outlet.resume(&since).await.map_err(|error| {
                tracing::info!(%error, "a live client that came again met a log that is away");
                ApiError::new(Code::Unavailable, "the log is away; try again")
            })?;
        }
    }
    let patience = app.hub.limits.send;
    let to = Arc::clone(outlet.connection());
    let stream = futures::stream::unfold(outlet, |mut outlet| async {
        let connection = Arc::clone(outlet.connection());
        let bytes = tokio::select! {
            biased;
            _ = connection.closed() => return None,
            bytes = outlet.next() => bytes,
            () = tokio::time::sleep(KEEP_ALIVE) => Vec::new(),
        };
        let bytes = match bytes.is_empty() {
            true => outlet.idle().unwrap_or_else(|| b":\n\n".to_vec()),
            false => bytes,
        };
        Some((Bytes::from(bytes), outlet))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((headers, pour(to, stream, patience)).into_response())
}

fn subscription(params: &EventParams) -> Result<Subscribe, ApiError> {
    let listed = |text: &Option<String>| -> Vec<String> {
        let names = text.iter().flat_map(|text| text.split(','));
        names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let group = |id: &String| {
        id.parse().map_err(|_| ApiError::field("group_id", format!("`{id}` is not a UUID")))
    };
    let group_ids = listed(&params.group_id).iter().map(group).collect::<Result<Vec<Uuid>, _>>()?;
    let device_ids = listed(&params.device_id);
    let whole = device_ids.is_empty() && group_ids.is_empty();
    Ok(Subscribe {
        device_ids,
        group_ids,
        fields: listed(&params.fields),
        max_rate: params.max_rate.or(whole.then_some(0.2)),
        types: listed(&params.types),
        since: None,
        positions: false,
    })
}
