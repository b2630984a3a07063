//! What the system knows about devices, commands, alerts and rollouts, as the HTTP API shows it, and the
//! events that tell of its changes.
//!
//! With the feature `openapi` every type describes itself for the OpenAPI document.

mod alerts;
mod auth;
mod commands;
mod configs;
mod devices;
pub mod event;
mod firmware;
mod groups;
mod ledger;
mod live;
mod notifications;
mod page;
pub mod problem;
mod role;
mod rollouts;
mod rules;
mod sql;
mod stats;
mod telemetry;
mod users;

pub use alerts::*;
pub use auth::*;
pub use commands::*;
pub use configs::*;
pub use devices::*;
pub use firmware::*;
pub use groups::*;
pub use ledger::*;
pub use live::*;
pub use notifications::*;
pub use page::*;
pub use role::*;
pub use rollouts::*;
pub use rules::*;
pub use sql::*;
pub use stats::*;
pub use telemetry::*;
pub use users::*;
