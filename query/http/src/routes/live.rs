//! Live events: the ways into the SignalR hub, and server-sent events.

use acuvim_model::{
    HubTransport, Negotiated,
    problem::{Code, Problem},
};
use acuvim_query_live::{
    ConnectError, ConnectionWriter, Live, Refusal, StreamPosition, Subscribe, Wire,
    signalr::{Delivery, Inboxes, Session},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    extract::Params,
    live::{LiveCaller, accept_sse, accept_websocket, event_stream},
    problem::ApiError,
};

/// The longest token of a connection.
const MOST_TOKEN: usize = 100;

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        let refusal = match error {
            ConnectError::Control(error) => return error.into(),
            ConnectError::Refused(refusal) => refusal,
        };
        let (code, detail) = match refusal {
            Refusal::NotReady => (Code::Unavailable, "the log's events can't be read"),
            Refusal::Stopping => (Code::Unavailable, "the server is stopping"),
            Refusal::Full => (
                Code::Unavailable,
                "as many live connections are open as live.max_connections lets",
            ),
            Refusal::FullOfCaller => {
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
    // As hard to guess as a key: whoever has it can speak for the connection.
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
    State(live): State<Live>,
    State(inboxes): State<Inboxes>,
    caller: LiveCaller,
    Params(params): Params<HubParams>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let subscriber = caller.into_subscriber();
    let id = subscriber.id;
    if let Ok(upgrade) = upgrade {
        let writer = ConnectionWriter::open(&live, subscriber, Wire::Hub).await?;
        let record_bytes = live.limits().record_bytes;
        return Ok(accept_websocket(upgrade, record_bytes, Session::new(writer)));
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        let detail = "connect with a WebSocket, or ask for text/event-stream";
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let token = token(params.id)?;
    let writer = ConnectionWriter::open(&live, subscriber, Wire::Hub).await?;
    let in_use = || ApiError::new(Code::Conflict, "this connection token is in use: negotiate");
    let inbox = inboxes.open(&token, id).ok_or_else(in_use)?;
    Ok(accept_sse(Session::new(writer), inbox))
}

/// What a client of the hub says, where its transport is server-sent events.
#[utoipa::path(post, path = "/hubs/devices", tag = "live", params(HubParams),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200), (status = 404, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn say(
    State(live): State<Live>,
    State(inboxes): State<Inboxes>,
    LiveCaller(caller): LiveCaller,
    Params(params): Params<HubParams>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let token = token(params.id)?;
    let most = live.limits().record_bytes * 4;
    let body = axum::body::to_bytes(body, most).await.map_err(|_| {
        ApiError::new(Code::TooLarge, format!("a message has up to {} KB", most >> 10))
    })?;
    match inboxes.deliver(&token, caller.user.id, body).await {
        Delivery::Done => Ok(StatusCode::OK),
        Delivery::Unknown => {
            Err(ApiError::new(Code::NotFound, "there is no connection of this token"))
        }
        Delivery::Busy => {
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
    State(live): State<Live>,
    caller: LiveCaller,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let subscribe = subscription(&params)?;
    let in_header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let since = in_header.or(params.last_event_id).filter(|id| !id.is_empty());
    let mut writer = ConnectionWriter::open(&live, caller.into_subscriber(), Wire::Sse).await?;
    let wrong = |error: String| ApiError::new(Code::BadRequest, error);
    writer.subscribe(&subscribe).await.map_err(wrong)?;
    match since {
        None => {
            // An id without data is no event to the client, and yet its last event id from then on.
            let id = writer.connection().joined.encode();
            writer.begin_with(format!("retry: 2000\nid: {id}\n\n").into());
        }
        Some(since) => {
            // A text that is no position counts as one that is too old: the client is told of a gap.
            let since = StreamPosition::decode(&since).unwrap_or_default();
            writer.begin_with(Bytes::from_static(b"retry: 2000\n\n"));
            writer.resume(&since).await.map_err(|error| {
                tracing::info!(%error, "a live client that came again could not reach the log");
                ApiError::new(Code::Unavailable, "the log is away; try again")
            })?;
        }
    }
    Ok(event_stream(writer, live.limits().send))
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
        // A client that names no device gets the whole fleet, whose every reading would be too much.
        max_rate: params.max_rate.or(whole.then_some(0.2)),
        types: listed(&params.types),
        since: None,
        positions: false,
    })
}
