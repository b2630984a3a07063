//! Live events, without HTTP: what happens, as it happens, to whoever is connected.
//!
//! Changes of state come from `acuvim.events`, which every process reads from its end; readings and
//! heartbeats come from the process's own tail, which has them a moment after the log. Both meet in the
//! [`Hub`], which hands them to connections: of the SignalR hub, or of server-sent events. A client reads
//! what it missed from the log, after the position that it names.
//!
//! The modules from the ground up, each using only those before it: `limits`, `position`, `event`,
//! `outbound`, `stalled`, `subscriber`, `connection`, `hub`, `state`, `log_events`, `access`, `replay`, `subscribe`,
//! `writer`, `sse_writer`, `signalr`, `feed`.

mod access;
mod connection;
mod event;
mod feed;
mod hub;
mod limits;
mod log_events;
mod outbound;
mod position;
mod replay;
pub mod signalr;
mod sse_writer;
mod stalled;
mod state;
mod subscribe;
mod subscriber;
mod writer;

#[cfg(test)]
mod testing;

pub use connection::{Closing, Connection};
pub use feed::run;
pub use hub::{Hub, Refusal};
pub use limits::LiveLimits;
pub use position::StreamPosition;
pub use sse_writer::sse_writer;
pub use state::{Live, LiveParts};
pub use subscribe::{Subscribe, Unsubscribe};
pub use subscriber::{Login, Subscriber};
pub use writer::{ConnectError, ConnectionWriter, Wire};
