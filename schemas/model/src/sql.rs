//! SQL over HTTP: the query and its answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /api/sql`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One SELECT statement.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "SELECT device_id, count(*) AS n FROM telemetry GROUP BY device_id")
    )]
    pub query: String,
    /// Values for `$1`, `$2`, ...: texts, numbers, booleans or null.
    #[serde(default)]
    pub params: Vec<Value>,
    /// The format of the answer, `json` unless given; `Accept: text/csv` asks for csv too.
    #[serde(default)]
    pub format: Option<SqlFormat>,
    /// `hot`, the default, reads the lake and the tail behind it; `lake` only what is committed.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// The Delta version of `telemetry` to read, as an earlier answer's `lake_version` said; without
    /// the tail, and with no other table of the lake beside it.
    #[serde(default)]
    pub at_version: Option<i64>,
    /// Milliseconds that it may take: at most the server's limit (30000 by default), which holds unless
    /// given.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Rows in the answer: at most the server's limit (100000 by default), which holds unless given.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// The form of a SQL answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SqlFormat {
    /// One JSON object with columns and rows.
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
    /// The name of the column.
    pub name: String,
    /// The Arrow type of the column, such as `Utf8` or `Int64`.
    pub r#type: String,
}

/// A JSON SQL answer.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SqlResponse {
    /// The names and types of the columns.
    pub columns: Vec<SqlColumn>,
    /// The rows, each with its values in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// The number of rows in this answer.
    pub row_count: usize,
    /// Whether rows were left out because there are more than `max_rows`.
    pub truncated: bool,
    /// The Delta version of `telemetry` that was read.
    pub lake_version: i64,
    /// The next offset of the log behind the rows that were seen, per partition.
    pub watermark: Vec<i64>,
    /// How long the query ran, in milliseconds.
    pub elapsed_ms: u64,
}

#[cfg(test)]
mod tests;
