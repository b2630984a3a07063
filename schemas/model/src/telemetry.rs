//! Telemetry over HTTP.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of a device's history.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// The device id.
    pub device_id: String,
    /// The length of the buckets, such as `15m`; null for raw readings.
    pub interval: Option<String>,
    /// The IANA name of the time zone whose days and hours the buckets follow.
    pub tz: String,
    /// The columns of the rows. The first is `ts`, which is the beginning of a bucket.
    pub columns: Vec<HistoryColumn>,
    /// The rows, in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// The value of `cursor` for the next page; null on the last page.
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
    /// `ts` or the name of a reading, followed by the aggregate if there are buckets.
    pub name: String,
    /// The unit's symbol; empty for a plain number and for `ts`.
    pub unit: String,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// Rows of the file that were read.
    pub rows: u64,
    /// Records of the log that were written for them.
    pub records: u64,
    /// Rows that became new readings.
    pub stored: u64,
    /// Rows whose readings were stored before.
    pub duplicates: u64,
    /// Rows that could not be stored.
    pub refused: u64,
    /// The first hundred rows that could not be stored, with the reasons.
    pub refusals: Vec<ImportRefusal>,
}

/// A row that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportRefusal {
    /// The number of the row in the file, from 1.
    pub row: u64,
    /// Why it could not be stored, in words.
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
    /// A single Parquet file.
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
    /// The device id.
    pub device_id: String,
    /// When it was measured, RFC 3339.
    pub ts: String,
    /// When it was received, RFC 3339.
    pub received_at: String,
    /// How it came: `live`, `sd` or `import`.
    pub source: Option<String>,
    /// How the device was connected: `wifi` or `gsm`; null if it did not say.
    pub connection: Option<String>,
    /// The values by the name of the reading, such as `voltage_l1_v`. Missing ones are absent.
    pub data: Map<String, Value>,
}

#[cfg(test)]
mod tests;
