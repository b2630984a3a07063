//! The hub as SignalR clients know it: its JSON protocol over WebSockets or server-sent events.
//!
//! Specified in the ASP.NET Core repository, `src/SignalR/docs/specs`: `HubProtocol.md` and
//! `TransportProtocols.md`.

mod protocol;
mod session;
pub(crate) mod sse;
pub(crate) mod websocket;

pub(crate) use session::Session;
