//! What feeds the hub: a reader for each partition of `acuvim.events`, and the tail's arrivals.

use std::{sync::Arc, time::Duration};

use acuvim_lakehouse::Arrived;
use acuvim_log::{Entry, ErrorKind, LogTopic, ReadLimit};
use acuvim_schemas::{
    event::Event,
    reading::{LOAD_TYPE, READINGS},
};
use arrow::array::RecordBatch;
use futures::future::join_all;

use super::{
    event::{REGISTERED, Reading, Told, told},
    position::{Place, Position},
};
use crate::{
    App,
    export::{Cells, object},
    sql::values,
};

/// What one read of a partition brings at most.
const READ: ReadLimit =
    ReadLimit { records: 500, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// More than the outbox delivers in one go.
const DELIVERED: i64 = 1000;

/// How long to wait while the log is away.
const AWAY: Duration = Duration::from_secs(1);

/// How long rights are looked at, and a device looked up, before an event goes on without.
const LOOK: Duration = Duration::from_secs(2);

/// Readings that arrive within this time go out together: each client gets one write for many.
const GATHER: Duration = Duration::from_millis(10);

/// Reads until it is dropped.
pub(super) async fn run(app: &App) {
    let position = loop {
        match ends(app).await {
            Ok(position) => break position,
            Err(error) => {
                tracing::info!(%error, "live events wait for the log");
                tokio::time::sleep(AWAY).await;
            }
        }
    };
    app.hub.begin(position.clone());
    let readers = position.places.iter().enumerate();
    let readers = readers.map(|(partition, place)| follow(app, partition, *place));
    tokio::join!(join_all(readers), arrivals(app));
}

/// The end of every partition of the log's events.
async fn ends(app: &App) -> Result<Position, acuvim_log::Error> {
    let log = &app.parts.log;
    let mut places = Vec::new();
    for partition in 0..log.partitions() {
        let bounds = log.bounds(LogTopic::Events, partition).await?;
        // What the outbox delivers again is known by the numbers of what it delivered last.
        let (mut from, mut seq) = (bounds.start.max(bounds.end - DELIVERED), 0);
        while from < bounds.end {
            let batch = log.read(LogTopic::Events, partition, from, READ).await?;
            seq = batch.entries.iter().filter_map(|(_, e)| numbered(e)).fold(seq, i64::max);
            if batch.next <= from {
                break;
            }
            from = batch.next;
        }
        places.push(Place { next: from.max(bounds.end), seq });
    }
    Ok(Position { epoch: app.lake().epoch(), places })
}

/// Hands one partition's events to the hub.
async fn follow(app: &App, partition: usize, from: Place) {
    let log = &app.parts.log;
    let number = u32::try_from(partition).unwrap_or(u32::MAX);
    let Place { mut next, mut seq } = from;
    loop {
        let batch = match log.read(LogTopic::Events, number, next, READ).await {
            Ok(batch) => batch,
            Err(error) => {
                if error.kind() == ErrorKind::OutOfRange
                    && let Ok(bounds) = log.bounds(LogTopic::Events, number).await
                {
                    tracing::error!(
                        partition,
                        next,
                        start = bounds.start,
                        end = bounds.end,
                        "events are not in the log any more: live clients have missed them"
                    );
                    next = bounds.start.max(next.min(bounds.end));
                    app.hub.missed("the log lost events before they could be told");
                }
                tokio::time::sleep(AWAY).await;
                continue;
            }
        };
        if batch.entries.iter().any(|(_, entry)| registers(entry)) {
            // Scopes may see the devices from now on.
            let looked = tokio::time::timeout(LOOK, super::access::refresh(app)).await;
            looked.unwrap_or_else(|_| tracing::debug!("live connections can't be checked in time"));
        }
        for (offset, entry) in batch.entries {
            let new = numbered(&entry).is_none_or(|n| n > seq);
            seq = seq.max(numbered(&entry).unwrap_or(0));
            let told = if new { tell(app, &entry).await } else { None };
            app.hub.publish(told, partition, Place { next: offset + 1, seq });
        }
        next = batch.next;
    }
}

/// The number that the outbox gave an event.
pub(super) fn numbered(entry: &Entry) -> Option<i64> {
    let header = entry.headers.iter().find(|(name, _)| name.as_ref() == b"outbox_seq")?;
    std::str::from_utf8(&header.1).ok()?.parse().ok()
}

fn registers(entry: &Entry) -> bool {
    let event = serde_json::from_slice::<Event>(&entry.value);
    event.is_ok_and(|event| is_registration(&event))
}

fn is_registration(event: &Event) -> bool {
    matches!(event, Event::Device(event) if event.event == REGISTERED)
}

/// What is told of a record of the log; none of what is not for live clients.
pub(super) async fn tell(app: &App, entry: &Entry) -> Option<Told> {
    let event = serde_json::from_slice::<Event>(&entry.value);
    let event =
        event.inspect_err(|_| metrics::counter!("acuvim_foreign_events_total").increment(1));
    let event = event.ok()?;
    let device = match event.device_id() {
        Some(id) if is_registration(&event) => {
            let found = tokio::time::timeout(LOOK, app.control().device(id, None)).await;
            found.ok().and_then(Result::ok).flatten()
        }
        _ => None,
    };
    told(&event, device.as_ref())
}

/// Hands to the hub what arrives in the tail.
async fn arrivals(app: &App) {
    loop {
        let arrived = app.lake().arrivals().take().await;
        if !app.hub.is_empty() {
            match written(app, &arrived) {
                Ok(readings) => app.hub.publish_readings(&readings),
                Err(error) => tracing::error!(%error, "live readings can't be written out"),
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}

fn written(app: &App, arrived: &Arrived) -> Result<Vec<Arc<Reading>>, acuvim_lakehouse::Error> {
    let rows = app.lake().latest().rows(arrived.readings.iter().map(AsRef::as_ref))?;
    let mut readings = telemetry(&rows);
    for (device, (rows, row)) in &arrived.heartbeats {
        let one = rows.slice(*row, 1);
        readings.push(Arc::new(Reading::heartbeat(Arc::clone(device), heartbeat(&one))));
    }
    Ok(readings)
}

/// Rows of `telemetry` as what `GET .../telemetry` answers.
fn telemetry(rows: &RecordBatch) -> Vec<Arc<Reading>> {
    const HEAD: [&str; 5] = ["device_id", "ts", "received_at", "source", "connection"];
    let key = |name: &str| format!("\"{name}\":").into_bytes();
    let columns = |names: &[&'static str]| -> Vec<(&'static str, Cells<'_>, Vec<u8>)> {
        let named = names.iter().filter_map(|name| Some((*name, rows.column_by_name(name)?)));
        named.map(|(name, column)| (name, Cells::of(column, false), key(name))).collect()
    };
    let names: Vec<&'static str> = READINGS.iter().map(|r| r.name).chain([LOAD_TYPE]).collect();
    let mut data = columns(&names);
    // As the API shows them, to the millisecond.
    let head = HEAD.map(|name| rows.column_by_name(name).map(values).unwrap_or_default());
    let ids = rows.column_by_name("device_id").map(arrow::array::AsArray::as_string::<i32>);
    let mut out = Vec::with_capacity(rows.num_rows());
    for (row, id) in ids.iter().flat_map(|ids| ids.iter()).enumerate() {
        let mut first = String::from("{");
        for (name, values) in HEAD.iter().zip(&head) {
            let value = values.get(row).map_or_else(|| "null".to_owned(), ToString::to_string);
            first.push_str(&format!("\"{name}\":{value},"));
        }
        let mut parts = Vec::with_capacity(data.len());
        for (name, cells, key) in &mut data {
            let mut cell = Vec::with_capacity(key.len() + 10);
            if cells.json(row, key, &mut cell) {
                parts.push((*name, text(cell)));
            }
        }
        let id = id.unwrap_or_default();
        out.push(Arc::new(Reading::telemetry(id.into(), first, parts)));
    }
    out
}

/// A row of `heartbeats` as an object, without what it is known by in the log.
fn heartbeat(rows: &RecordBatch) -> String {
    const INNER: [&str; 4] = ["partition", "offset", "item", "date"];
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(rows.columns());
    let named = fields.filter(|(field, _)| !INNER.contains(&field.name().as_str()));
    let mut columns: Vec<(Cells<'_>, Vec<u8>)> = named
        .map(|(field, column)| {
            (Cells::of(column, false), format!("\"{}\":", field.name()).into_bytes())
        })
        .collect();
    let mut out = Vec::new();
    object(&mut columns, 0, &mut out);
    text(out)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}
