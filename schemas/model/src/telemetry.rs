//! Telemetry over HTTP.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of a device's history.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// Whose it is.
    pub device_id: String,
    /// The length of its buckets; none of raw readings.
    pub interval: Option<String>,
    /// Whose calendar the buckets follow.
    pub tz: String,
    /// The columns of the rows, one for each cell; the first is `ts`: of buckets their beginning.
    pub columns: Vec<HistoryColumn>,
    /// The rows, in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// What asks for the next page; none on the last.
    pub next_cursor: Option<String>,
    /// The Delta version of `telemetry` that was read.
    pub lake_version: i64,
    /// The next log offset behind the rows that were seen, per partition.
    pub watermark: Vec<i64>,
}

/// A column of a history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryColumn {
    /// `ts`, or the reading, with the aggregate behind it where there are buckets.
    pub name: String,
    /// The unit's symbol; empty for a plain number and for `ts`.
    pub unit: String,
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// Rows that were read.
    pub rows: u64,
    /// Records of the log that they became.
    pub records: u64,
    /// Rows that are readings now that were not there before.
    pub stored: u64,
    /// Rows that were there before.
    pub duplicates: u64,
    /// Rows that are not stored.
    pub refused: u64,
    /// The first hundred of these, with the reason.
    pub refusals: Vec<ImportRefusal>,
}

/// A row that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportRefusal {
    /// Which, counted from 1.
    pub row: u64,
    /// Why.
    pub message: String,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// CSV (RFC 4180) with a header line; nothing for null.
    #[default]
    Csv,
    /// One JSON object a line; null is left out.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
    /// One Parquet file.
    Parquet,
}

impl ExportFormat {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// What its files' names end with.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
        }
    }
}

/// `GET /api/devices/{device_id}/telemetry`: the reading with the highest `ts`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
