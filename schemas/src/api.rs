//! Bodies of the HTTP API: the shapes that callers and this system agree on.

mod alerts;
mod commands;
mod configs;
mod devices;
mod firmware;
mod groups;
mod ledger;
mod live;
mod notifications;
mod rollouts;
mod rules;
mod stats;
mod telemetry;
mod users;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use alerts::*;
pub use commands::*;
pub use configs::*;
pub use devices::*;
pub use firmware::*;
pub use groups::*;
pub use ledger::*;
pub use live::*;
pub use notifications::*;
pub use rollouts::*;
pub use rules::*;
pub use stats::*;
pub use telemetry::*;
pub use users::*;

/// What a user or key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also commands, configures, acknowledges and groups.
    Operator,
    /// All.
    Admin,
}

impl Role {
    /// The name in tokens, tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "Viewer",
            Self::Operator => "Operator",
            Self::Admin => "Admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|r| r.as_str() == name)
    }
}

/// `POST /api/auth/login`
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Who.
    #[schema(example = "admin")]
    pub username: String,
    /// And the proof.
    pub password: String,
}

/// Answer to a login or a refresh.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct LoginResponse {
    /// A JWT for `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    /// Good for one `POST /api/auth/refresh`.
    pub refresh_token: String,
    /// Who logged in.
    pub user: UserInfo,
}

/// `POST /api/auth/refresh` and `POST /api/auth/logout`
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The refresh token of the last login or refresh.
    pub refresh_token: String,
}

/// `POST /api/auth/password`
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password so far.
    pub current_password: String,
    /// The one from now on: at least 12 characters.
    pub new_password: String,
}

/// A page of a list.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: i64,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}

/// `GET /api/devices/{device_id}/telemetry`: the reading with the highest `ts`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct LatestReading {
    /// Whose.
    pub device_id: String,
    /// When it was measured.
    pub ts: String,
    /// When it arrived.
    pub received_at: String,
    /// `live` or `sd`.
    pub source: Option<String>,
    /// `wifi` or `gsm`.
    pub connection: Option<String>,
    /// The readings by name; a missing one is absent.
    pub data: Map<String, Value>,
}

/// `POST /api/sql`
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One SELECT.
    #[schema(example = "SELECT device_id, count(*) AS n FROM telemetry GROUP BY device_id")]
    pub query: String,
    /// Values for `$1`, `$2`, ...: texts, numbers, booleans or null.
    #[serde(default)]
    pub params: Vec<Value>,
    /// The form of the answer; `Accept: text/csv` asks for csv too.
    #[serde(default)]
    pub format: Option<SqlFormat>,
    /// Lake and tail (hot, the default), or only what is committed to the lake.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// The Delta version of `telemetry` to read, as an earlier answer's `lake_version` said; without
    /// the tail, and with no other table of the lake beside it.
    #[serde(default)]
    pub at_version: Option<i64>,
    /// Milliseconds it may take, at most what the server allows.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Rows to answer at most, at most what the server allows.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// The form of a SQL answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SqlFormat {
    /// One JSON object.
    Json,
    /// CSV with a header line.
    Csv,
}

/// Which rows a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The lake and the tail behind it: every acknowledged reading.
    Hot,
    /// The lake alone, as any other reader of its files sees it.
    Lake,
}

/// A column of a SQL answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub r#type: String,
}

/// A JSON SQL answer.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct SqlResponse {
    /// Names and types.
    pub columns: Vec<SqlColumn>,
    /// The rows, in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// How many rows this answer has.
    pub row_count: usize,
    /// Whether rows were left out because of the cap.
    pub truncated: bool,
    /// The Delta version of `telemetry` behind it.
    pub lake_version: i64,
    /// Up to which log offset, per partition, its rows reach.
    pub watermark: Vec<i64>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}
