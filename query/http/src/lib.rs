//! HTTP: the REST API, SQL over lake and tail, live events, authentication and OpenAPI.
//!
//! Handlers read views of the lake, and read and change rows of control. Effects of a change on other parts
//! of the system go through control's outbox. A handler's signature says what it may touch: it takes the services that
//! it uses (`State<Control>`, `State<Sql>`, ...) and never all of them.
//!
//! The modules from the ground up, each using only those before it: `problem`, `clock`, `extract`,
//! `address`, `checks`, `listen`, `middleware`, `auth`, `jobs`, `firmware`, `import`, `live`, `commands`,
//! `status`, `state`, `routes`, `modem_headers`, `server`.

mod address;
mod auth;
mod checks;
mod clock;
mod commands;
mod extract;
mod firmware;
mod import;
mod jobs;
mod listen;
mod live;
mod middleware;
mod modem_headers;
mod problem;
mod routes;
mod server;
mod state;
mod status;
#[cfg(test)]
mod testing;

pub use acuvim_query_live::LiveLimits;
pub use acuvim_query_sql::{GateLimits, SqlLimits, check_query};
pub use address::TrustedProxies;
pub use auth::{Jwt, Session, hash_password, is_common_password, is_password};
pub use checks::{HostCheck, HostRefusal};
pub use commands::CommandOptions;
pub use firmware::FirmwareOptions;
pub use listen::ConnectionLimits;
pub use middleware::HttpLimits;
pub use routes::openapi;
pub use server::{run_live, run_rollouts, serve, serve_devices, serve_system};
pub use state::{Api, ApiOptions};
pub use status::{Component, Status, System};
