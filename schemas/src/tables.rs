//! The Arrow schemas of the lake's tables: names and types are the same in memory, files and SQL.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::reading::{LOAD_TYPE, READINGS};

/// The partition column of every table: a UTC day.
pub const DATE: &str = "date";

/// A table of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Every reading, once.
    Telemetry,
    /// Every message or reading that could not be used.
    DeadLetters,
}

impl Table {
    /// Every table, in the order in which one flush commits them: `telemetry` last, because its
    /// offsets are the restart point.
    pub const COMMIT_ORDER: [Self; 2] = [Self::DeadLetters, Self::Telemetry];

    /// The name, in SQL and as the folder under the lake's URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// The table's columns. `date` comes last and is the partition column.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static TELEMETRY: OnceLock<SchemaRef> = OnceLock::new();
        static DEAD_LETTERS: OnceLock<SchemaRef> = OnceLock::new();
        match self {
            Self::Telemetry => TELEMETRY.get_or_init(telemetry),
            Self::DeadLetters => DEAD_LETTERS.get_or_init(dead_letters),
        }
        .clone()
    }

    /// The columns by which rows are sorted inside a file.
    #[must_use]
    pub const fn sort_columns(self) -> [&'static str; 2] {
        match self {
            Self::Telemetry => ["device_id", "ts"],
            Self::DeadLetters => ["device_id", "received_at"],
        }
    }

    /// What the table holds, for `GET /api/sql/tables` and readers of the schema.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Telemetry => "Every reading of every device, once per device and ts",
            Self::DeadLetters => "Every message or reading that could not be used, with the reason",
        }
    }
}

/// The type of every time column: microseconds, UTC, the one timestamp that Delta knows.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The DECIMAL of reading column `i` of [`READINGS`].
#[must_use]
pub fn decimal(precision: u8, scale: u8) -> DataType {
    DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
}

fn identity() -> [Field; 4] {
    [
        Field::new("epoch", DataType::Int32, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("item", DataType::Int32, false),
    ]
}

fn telemetry() -> SchemaRef {
    let mut fields = vec![
        Field::new("device_id", DataType::Utf8, false),
        Field::new("ts", timestamp(), false),
        Field::new("received_at", timestamp(), false),
        Field::new("source", DataType::Utf8, true),
        Field::new("connection", DataType::Utf8, true),
        Field::new("seq", DataType::Int64, true),
        Field::new("boot", DataType::Int64, true),
    ];
    fields.extend(READINGS.iter().map(|r| Field::new(r.name, decimal(r.precision, r.scale), true)));
    fields.push(Field::new(LOAD_TYPE, DataType::Utf8, true));
    fields.push(Field::new("extra", DataType::Utf8, true));
    fields.extend(identity());
    fields.push(Field::new(DATE, DataType::Date32, false));
    Arc::new(Schema::new(fields))
}

fn dead_letters() -> SchemaRef {
    let mut fields = vec![
        Field::new("device_id", DataType::Utf8, true),
        Field::new("received_at", timestamp(), false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("detail", DataType::Utf8, true),
        Field::new("payload", DataType::Binary, false),
        Field::new("payload_length", DataType::Int64, false),
        Field::new("payload_sha256", DataType::Utf8, true),
    ];
    fields.extend(identity());
    fields.push(Field::new(DATE, DataType::Date32, false));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_commits_last_and_date_is_the_last_column() {
        assert_eq!(Table::COMMIT_ORDER.last(), Some(&Table::Telemetry));
        for table in Table::COMMIT_ORDER {
            assert_eq!(table.schema().fields().last().map(|f| f.name().as_str()), Some(DATE));
            for column in table.sort_columns() {
                assert!(table.schema().field_with_name(column).is_ok());
            }
        }
    }
}
