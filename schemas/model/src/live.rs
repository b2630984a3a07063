//! Live connections: what a SignalR client is answered when it begins one.

use serde::{Deserialize, Serialize};

/// The answer to `negotiate`, as SignalR specifies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Negotiated {
    /// The version of the answer: 1.
    pub negotiate_version: u32,
    /// The id of the connection, for logs.
    pub connection_id: String,
    /// The token that the client sends as `id` to connect.
    pub connection_token: String,
    /// The transports that the hub offers.
    pub available_transports: Vec<HubTransport>,
}

/// A transport of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HubTransport {
    /// The name of the transport: `WebSockets` or `ServerSentEvents`.
    pub transport: String,
    /// The formats of its messages: always `Text` alone.
    pub transfer_formats: Vec<String>,
}
