//! Rows of `alert_events` and `device_events`.

use std::sync::Arc;

use acuvim_model::{
    Alert, DeviceStatus,
    event::{AlertEvent, DeviceEvent, Event},
};
use acuvim_wire::time::day_of;
use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    error::ArrowError,
};
use chrono::{DateTime, Utc};

use crate::table::Table;

/// The rows of those events that belong to a table.
///
/// # Errors
/// Only if the columns do not match the schema, which is a bug.
pub fn rows(table: Table, events: &[Event]) -> Result<RecordBatch, ArrowError> {
    match table {
        Table::AlertEvents => {
            let alerts = events.iter().filter_map(|event| match event {
                Event::Alert(event) => Some(event.as_ref()),
                Event::Device(_) | Event::Rollout(_) | Event::Command(_) => None,
            });
            alert_rows(&alerts.collect::<Vec<_>>())
        }
        Table::DeviceEvents => {
            let devices = events.iter().filter_map(|event| match event {
                Event::Device(event) => Some(event.as_ref()),
                Event::Alert(_) | Event::Rollout(_) | Event::Command(_) => None,
            });
            device_rows(&devices.collect::<Vec<_>>())
        }
        other => Ok(RecordBatch::new_empty(other.schema())),
    }
}

fn texts<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> Option<String>) -> ArrayRef {
    Arc::new(events.iter().map(|event| get(event)).collect::<StringArray>())
}

fn times<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> DateTime<Utc>) -> ArrayRef {
    let times = events.iter().map(|event| get(event).timestamp_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn days<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> DateTime<Utc>) -> ArrayRef {
    let days = events.iter().map(|event| day_of(get(event).timestamp_micros()));
    Arc::new(Date32Array::from_iter_values(days))
}

fn alert_rows(events: &[&AlertEvent]) -> Result<RecordBatch, ArrowError> {
    let flag = |get: fn(&Alert) -> bool| -> ArrayRef {
        Arc::new(events.iter().map(|e| Some(get(&e.alert))).collect::<BooleanArray>())
    };
    let real = |get: fn(&Alert) -> Option<f64>| -> ArrayRef {
        Arc::new(events.iter().map(|e| get(&e.alert)).collect::<Float64Array>())
    };
    // JSON text rather than a list, so that every table can be exported as CSV.
    let readings = |event: &AlertEvent| {
        let all: Vec<String> = event.readings.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| serde_json::json!(all).to_string())
    };
    let versions: Int64Array = events.iter().map(|e| e.alert.rule_version).collect();
    let columns = vec![
        texts(events, |e| Some(e.event_id.to_string())),
        texts(events, |e| Some(e.alert.id.to_string())),
        texts(events, |e| e.alert.device_id.clone()),
        times(events, |e| e.ts),
        times(events, |e| e.recorded_at),
        texts(events, |e| Some(e.step.as_str().to_owned())),
        texts(events, |e| Some(e.alert.alert_type.clone())),
        texts(events, |e| Some(e.alert.severity.as_str().to_owned())),
        texts(events, |e| Some(e.alert.origin.as_str().to_owned())),
        texts(events, |e| Some(e.alert.message.clone())),
        real(|a| a.value),
        real(|a| a.threshold),
        texts(events, |e| e.alert.rule_id.map(|id| id.to_string())),
        Arc::new(versions),
        flag(|a| a.shadow),
        flag(|a| a.silenced),
        flag(|a| a.backfilled),
        texts(events, |e| e.alert.incident_id.map(|id| id.to_string())),
        texts(events, |e| e.by.clone()),
        texts(events, |e| e.note.clone()),
        texts(events, readings),
        days(events, |e| e.ts),
    ];
    RecordBatch::try_new(Table::AlertEvents.schema(), columns)
}

fn device_rows(events: &[&DeviceEvent]) -> Result<RecordBatch, ArrowError> {
    let status = |status: Option<DeviceStatus>| status.map(|s| s.as_str().to_owned());
    let columns = vec![
        texts(events, |e| Some(e.event_id.to_string())),
        texts(events, |e| Some(e.device_id.clone())),
        times(events, |e| e.ts),
        times(events, |e| e.recorded_at),
        texts(events, |e| Some(e.event.clone())),
        texts(events, |e| status(e.status)),
        texts(events, |e| status(e.previous)),
        texts(events, |e| e.reason.clone()),
        texts(events, |e| e.detail.as_ref().map(ToString::to_string)),
        days(events, |e| e.ts),
    ];
    RecordBatch::try_new(Table::DeviceEvents.schema(), columns)
}

#[cfg(test)]
mod tests;
