//! SQL over HTTP: the query and its answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /api/sql`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One SELECT.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "SELECT device_id, count(*) AS n FROM telemetry GROUP BY device_id")
    )]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SqlFormat {
    /// One JSON object.
    Json,
    /// CSV with a header line.
    Csv,
}

/// Which rows a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The lake and the tail behind it: every acknowledged reading.
    Hot,
    /// The lake alone, as any other reader of its files sees it.
    Lake,
}

/// A column of a SQL answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub r#type: String,
}

/// A JSON SQL answer.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
