//! HTTP: the REST API, SQL over lake and tail, authentication and OpenAPI.
//!
//! Handlers read views of the lake and rows of control, and change nothing else. How the other
//! stages are doing they learn from a function that the composition root hands them.

mod app;
mod auth;
mod problem;
mod routes;
mod server;
mod sql;

pub use app::{App, AppOptions, Component, Status, System};
pub use auth::{Jwt, Session, hash_password};
pub use routes::openapi;
pub use server::{serve, serve_system};
pub use sql::{GateLimits, SqlLimits, check_query};
