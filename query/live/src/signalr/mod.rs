//! The hub as SignalR clients know it: its JSON protocol, and sessions that speak it over any transport.
//!
//! Specified in the ASP.NET Core repository, `src/SignalR/docs/specs`: `HubProtocol.md` and
//! `TransportProtocols.md`.

mod inbox;
mod protocol;
mod session;

pub use inbox::{Delivery, Inbox, Inboxes};
pub use session::{LastBytes, Session};
