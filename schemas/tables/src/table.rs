//! The Arrow schemas of the lake's tables: names and types are the same in memory, in files and in SQL.

use std::sync::{Arc, OnceLock};

use acuvim_wire::reading::{LOAD_TYPE, READINGS};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::rollup::{self, Stat};

/// The partition column of every table: the UTC day.
pub const DATE: &str = "date";

/// A table of the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Every reading, once.
    Telemetry,
    /// Every message or reading that could not be used.
    DeadLetters,
    /// Every heartbeat, once.
    Heartbeats,
    /// What was received and what became of it, by partition and minute.
    Ledger,
    /// Every event of every alert.
    AlertEvents,
    /// Every change of a device's state.
    DeviceEvents,
    /// Readings by quarters of an hour.
    Rollup15m,
    /// Readings by days of the site's calendar.
    RollupDaily,
}

impl Table {
    /// The tables that are written from the log, in the order in which a flush commits them. `ledger`
    /// comes first, so that there are never rows without their count; `telemetry` comes last, because
    /// its offsets are where the processor restarts.
    pub const COMMIT_ORDER: [Self; 4] =
        [Self::Ledger, Self::DeadLetters, Self::Heartbeats, Self::Telemetry];

    /// The tables that are written from the outbox.
    pub const EVENTS: [Self; 2] = [Self::AlertEvents, Self::DeviceEvents];

    /// The tables that are derived from `telemetry`.
    pub const ROLLUPS: [Self; 2] = [Self::Rollup15m, Self::RollupDaily];

    /// Every table, in the order in which the API lists them.
    pub const ALL: [Self; 8] = [
        Self::Telemetry,
        Self::Heartbeats,
        Self::AlertEvents,
        Self::DeviceEvents,
        Self::DeadLetters,
        Self::Ledger,
        Self::Rollup15m,
        Self::RollupDaily,
    ];

    /// The name, in SQL and as the folder under the lake's URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::DeadLetters => "dead_letters",
            Self::Heartbeats => "heartbeats",
            Self::Ledger => "ledger",
            Self::AlertEvents => "alert_events",
            Self::DeviceEvents => "device_events",
            Self::Rollup15m => "rollup_15m",
            Self::RollupDaily => "rollup_daily",
        }
    }

    /// The table's columns. `date` comes last and is the partition column.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        // Built once: every batch asks for its schema, and those of rollups have over 200 columns.
        static TELEMETRY: OnceLock<SchemaRef> = OnceLock::new();
        static DEAD_LETTERS: OnceLock<SchemaRef> = OnceLock::new();
        static HEARTBEATS: OnceLock<SchemaRef> = OnceLock::new();
        static LEDGER: OnceLock<SchemaRef> = OnceLock::new();
        static ALERT_EVENTS: OnceLock<SchemaRef> = OnceLock::new();
        static DEVICE_EVENTS: OnceLock<SchemaRef> = OnceLock::new();
        static ROLLUP_15M: OnceLock<SchemaRef> = OnceLock::new();
        static ROLLUP_DAILY: OnceLock<SchemaRef> = OnceLock::new();
        match self {
            Self::Telemetry => TELEMETRY.get_or_init(telemetry),
            Self::DeadLetters => DEAD_LETTERS.get_or_init(dead_letters),
            Self::Heartbeats => HEARTBEATS.get_or_init(heartbeats),
            Self::Ledger => LEDGER.get_or_init(ledger),
            Self::AlertEvents => ALERT_EVENTS.get_or_init(alert_events),
            Self::DeviceEvents => DEVICE_EVENTS.get_or_init(device_events),
            Self::Rollup15m => ROLLUP_15M.get_or_init(|| rollups(&[], &[rollup::COUNTER_STATE])),
            Self::RollupDaily => ROLLUP_DAILY.get_or_init(|| rollups(&DAILY, &[])),
        }
        .clone()
    }

    /// The columns by which rows are sorted inside a file.
    #[must_use]
    pub const fn sort_columns(self) -> [&'static str; 2] {
        match self {
            Self::Telemetry
            | Self::Heartbeats
            | Self::AlertEvents
            | Self::DeviceEvents
            | Self::Rollup15m
            | Self::RollupDaily => ["device_id", "ts"],
            Self::DeadLetters => ["device_id", "received_at"],
            Self::Ledger => ["device_id", "minute"],
        }
    }

    /// A description for `GET /api/sql/tables` and for readers of the schema.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Telemetry => "Every reading of every device, once per device and ts",
            Self::DeadLetters => "Every message or reading that could not be used, with the reason",
            Self::Heartbeats => "Every heartbeat of every device, once per device and ts",
            Self::Ledger => {
                "What was received and what became of it: rows without device_id count a partition's \
                 minute, rows with it what is worth a look; rows of one minute add up"
            }
            Self::AlertEvents => {
                "Every step of every alert: raised, cleared, acknowledged, amended"
            }
            Self::DeviceEvents => "Every change of a device's state, with its reason",
            Self::Rollup15m => {
                "Readings by device and quarter of an hour, ts its beginning: least, greatest, mean \
                 and number of values; of energy counters what they counted and where they stood"
            }
            Self::RollupDaily => {
                "The same by day of the site's time zone, ts its midnight; added up from rollup_15m"
            }
        }
    }
}

/// The type of every time column: microseconds in UTC, the only timestamp type of Delta.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The DECIMAL type with this precision and scale.
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

const fn text(name: &'static str, nullable: bool) -> (&'static str, DataType, bool) {
    (name, DataType::Utf8, nullable)
}

const fn whole(name: &'static str, nullable: bool) -> (&'static str, DataType, bool) {
    (name, DataType::Int64, nullable)
}

fn time(name: &'static str, nullable: bool) -> (&'static str, DataType, bool) {
    (name, timestamp(), nullable)
}

fn schema_of(
    fields: impl IntoIterator<Item = (&'static str, DataType, bool)>,
    with_identity: bool,
) -> SchemaRef {
    let fields = fields.into_iter().map(|(name, ty, nullable)| Field::new(name, ty, nullable));
    let mut fields: Vec<Field> = fields.collect();
    if with_identity {
        fields.extend(identity());
    }
    fields.push(Field::new(DATE, DataType::Date32, false));
    Arc::new(Schema::new(fields))
}

fn heartbeats() -> SchemaRef {
    let fields = [
        text("device_id", false),
        time("ts", false),
        time("received_at", false),
        whole("heartbeat_interval_s", true),
        text("firmware_version", true),
        text("hardware", true),
        whole("uptime_ms", true),
        whole("boot", true),
        text("meter_serial", true),
        text("reset_reason", true),
        whole("free_heap", true),
        whole("min_free_heap", true),
        text("connection_type", true),
        whole("signal_strength", true),
        text("ip_address", true),
        whole("modbus_ok", true),
        whole("modbus_errors", true),
        ("sd_present", DataType::Boolean, true),
        whole("sd_free_mb", true),
        whole("sd_pending", true),
        whole("mqtt_reconnects", true),
        whole("wifi_reconnects", true),
        text("extra", true),
    ];
    schema_of(fields, true)
}

fn ledger() -> SchemaRef {
    let fields = [
        text("device_id", true),
        time("minute", false),
        whole("records", false),
        whole("received", false),
        whole("stored", false),
        whole("heartbeats", false),
        whole("noted", false),
        whole("duplicates", false),
        whole("dead_letters", false),
        whole("replayed", false),
        whole("internal", false),
        whole("first_offset", false),
        whole("next_offset", false),
        // Nullable, because columns that are added to a table later must be.
        whole("same_ts", true),
    ];
    schema_of(fields, true)
}

fn alert_events() -> SchemaRef {
    let fields = [
        text("event_id", false),
        text("alert_id", false),
        text("device_id", true),
        time("ts", false),
        time("recorded_at", false),
        text("event", false),
        text("alert_type", false),
        text("severity", false),
        text("origin", false),
        text("message", false),
        ("value", DataType::Float64, true),
        ("threshold", DataType::Float64, true),
        text("rule_id", true),
        whole("rule_version", true),
        ("shadow", DataType::Boolean, false),
        ("silenced", DataType::Boolean, false),
        ("backfilled", DataType::Boolean, false),
        text("incident_id", true),
        text("by", true),
        text("note", true),
        text("readings", true),
    ];
    schema_of(fields, false)
}

fn device_events() -> SchemaRef {
    let fields = [
        text("event_id", false),
        text("device_id", false),
        time("ts", false),
        time("recorded_at", false),
        text("event", false),
        text("status", true),
        text("previous", true),
        text("reason", true),
        text("detail", true),
    ];
    schema_of(fields, false)
}

/// The columns that only `rollup_daily` has.
const DAILY: [(&str, DataType); 2] = [("day", DataType::Date32), ("time_zone", DataType::Utf8)];

/// All columns but the key are nullable, so that columns can be added for new readings.
fn rollups(more: &[(&str, DataType)], texts: &[&str]) -> SchemaRef {
    let mut fields =
        vec![Field::new("device_id", DataType::Utf8, false), Field::new("ts", timestamp(), false)];
    fields.extend(more.iter().map(|(name, of)| Field::new(*name, of.clone(), true)));
    fields.extend([
        Field::new("samples", DataType::Int32, true),
        Field::new("last_ts", timestamp(), true),
        Field::new("meter_serial", DataType::Utf8, true),
    ]);
    fields.extend(texts.iter().map(|name| Field::new(*name, DataType::Utf8, true)));
    fields.extend(rollup::columns().iter().map(|column| {
        let of = READINGS.get(column.reading).map_or(DataType::Null, |r| match column.stat {
            Stat::Count | Stat::Suspect => DataType::Int32,
            Stat::Avg => DataType::Float64,
            Stat::Min | Stat::Max | Stat::Delta | Stat::Last => decimal(r.precision, r.scale),
        });
        Field::new(&column.name, of, true)
    }));
    fields.push(Field::new(DATE, DataType::Date32, false));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;
