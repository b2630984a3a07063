//! Live connections: what a SignalR client is answered when it begins one.

use serde::{Deserialize, Serialize};

/// The answer to `negotiate`, as SignalR specifies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Negotiated {
    /// The version of the answer: 1.
    pub negotiate_version: u32,
    /// The connection's id.
    pub connection_id: String,
    /// What the client names in `id`.
    pub connection_token: String,
    /// The transports that are spoken.
    pub available_transports: Vec<HubTransport>,
}

/// A transport of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HubTransport {
    /// `WebSockets` or `ServerSentEvents`.
    pub transport: String,
    /// `Text`.
    pub transfer_formats: Vec<String>,
}
