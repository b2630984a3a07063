//! HTTP: the REST API, SQL over lake and tail, authentication and OpenAPI.
//!
//! Handlers read views of the lake, and read and change rows of control; what a change causes
//! elsewhere goes through its outbox. How the other stages are doing they learn from a function that
//! the composition root hands them.

mod app;
mod auth;
mod backtest;
mod checks;
mod export;
mod firmware;
mod guard;
mod history;
mod import;
mod listen;
mod live;
mod modem;
mod problem;
mod routes;
mod server;
mod sql;

pub use app::{App, AppOptions, CommandOptions, Component, HostCheck, HostRefusal, Status, System};
pub use auth::{Jwt, Session, hash_password, is_common_password, is_password};
pub use firmware::FirmwareOptions;
pub use guard::{GuardLimits, TrustedProxies};
pub use listen::ConnectionLimits;
pub use live::LiveLimits;
pub use routes::openapi;
pub use server::{run_live, run_rollouts, serve, serve_devices, serve_system};
pub use sql::{GateLimits, SqlLimits, check_query};
