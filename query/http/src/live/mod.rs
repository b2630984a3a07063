//! Live connections over HTTP: who may open one, and the transports of the hub.

mod caller;
mod sse;
mod websocket;

pub(crate) use caller::LiveCaller;
pub(crate) use sse::{accept as accept_sse, event_stream};
pub(crate) use websocket::accept as accept_websocket;
