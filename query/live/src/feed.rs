//! The sources of the hub: a reader for each partition of `acuvim.events`, and the tail's arrivals.

use std::{sync::Arc, time::Duration};

use acuvim_lakehouse::Arrived;
use acuvim_log::{ErrorKind, LogTopic, ReadLimit};
use acuvim_query_sql::encode::{Cells, ReadingParts, ReadingRows, object, reading_names};
use arrow::array::RecordBatch;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    access,
    connection::Closing,
    event::Reading,
    log_events::{is_registration, message, outbox_number},
    position::{PartitionPosition, StreamPosition},
    state::Live,
};

/// The most that one read of a partition returns.
const READ: ReadLimit =
    ReadLimit { records: 500, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// More records than the outbox delivers in one go.
const DELIVERED: i64 = 1000;

/// The pause before the log is read again after an error.
const RETRY: Duration = Duration::from_secs(1);

/// How long an event waits for connections to be checked before it goes out.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// Readings that arrive within this time go out together: each client gets one write for many.
const GATHER: Duration = Duration::from_millis(10);

/// How long connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Feeds live connections until `stop`, and checks that each is still allowed; then closes them.
pub async fn run(live: Live, stop: CancellationToken) {
    let feeds = async { tokio::join!(feed(&live), access::run(&live)) };
    let _: Option<((), ())> = stop.run_until_cancelled(Box::pin(feeds)).await;
    live.hub().close_all(&Closing::again("the server is stopping"));
    let begun = tokio::time::Instant::now();
    while !live.hub().is_empty() && begun.elapsed() < GOODBYE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads until it is dropped.
async fn feed(live: &Live) {
    let position = loop {
        match end_of_log(live).await {
            Ok(position) => break position,
            Err(error) => {
                tracing::info!(%error, "live events wait for the log");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // Before the readers start: whoever joins now gets exactly what they are going to read.
    live.hub().begin(position.clone());
    let readers = position.partitions.iter().enumerate();
    let readers = readers.map(|(partition, from)| follow(live, partition, *from));
    tokio::join!(join_all(readers), arrivals(live));
}

/// The end of every partition of the log's events.
async fn end_of_log(live: &Live) -> Result<StreamPosition, acuvim_log::Error> {
    let log = live.log();
    let mut partitions = Vec::new();
    for partition in 0..log.partitions() {
        let bounds = log.bounds(LogTopic::Events, partition).await?;
        // The outbox may deliver its last events again. Their numbers are found among the newest records.
        let (mut from, mut seq) = (bounds.start.max(bounds.end - DELIVERED), 0);
        while from < bounds.end {
            let batch = log.read(LogTopic::Events, partition, from, READ).await?;
            seq = batch.entries.iter().filter_map(|(_, e)| outbox_number(e)).fold(seq, i64::max);
            if batch.next <= from {
                break;
            }
            from = batch.next;
        }
        partitions.push(PartitionPosition { next: from.max(bounds.end), seq });
    }
    Ok(StreamPosition { epoch: live.lake().epoch(), partitions })
}

/// Hands one partition's events to the hub.
async fn follow(live: &Live, partition: usize, from: PartitionPosition) {
    let log = live.log();
    let number = u32::try_from(partition).unwrap_or(u32::MAX);
    let PartitionPosition { mut next, mut seq } = from;
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
                    live.hub().missed("the log lost events before they could be told");
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if batch.entries.iter().any(|(_, entry)| is_registration(entry)) {
            // Scopes may see the new devices from now on.
            let checked = tokio::time::timeout(CHECK_TIME, access::refresh(live)).await;
            checked
                .unwrap_or_else(|_| tracing::debug!("live connections can't be checked in time"));
        }
        for (offset, entry) in batch.entries {
            let number = outbox_number(&entry);
            let is_new = number.is_none_or(|number| number > seq);
            seq = seq.max(number.unwrap_or(0));
            let message = if is_new { message(live, &entry).await } else { None };
            // Also of a record without a message: it need not be read again by whoever resumes.
            let after = PartitionPosition { next: offset + 1, seq };
            live.hub().publish(message, partition, after);
        }
        next = batch.next;
    }
}

/// Hands new readings and heartbeats of the tail to the hub.
async fn arrivals(live: &Live) {
    loop {
        let arrived = live.lake().arrivals().take().await;
        // Encoding is most of the work here, and is not done for nobody.
        if !live.hub().is_empty() {
            match encoded(live, &arrived) {
                Ok(readings) => live.hub().publish_readings(&readings),
                Err(error) => tracing::error!(%error, "live readings can't be encoded"),
            }
        }
        tokio::time::sleep(GATHER).await;
    }
}

fn encoded(live: &Live, arrived: &Arrived) -> Result<Vec<Arc<Reading>>, acuvim_lakehouse::Error> {
    let rows = live.lake().latest().rows(arrived.readings.iter().map(AsRef::as_ref))?;
    let mut readings = telemetry(&rows);
    for (device, (rows, row)) in &arrived.heartbeats {
        let one = rows.slice(*row, 1);
        readings.push(Arc::new(Reading::heartbeat(Arc::clone(device), heartbeat(&one))));
    }
    Ok(readings)
}

/// Rows of `telemetry` as readings.
fn telemetry(rows: &RecordBatch) -> Vec<Arc<Reading>> {
    let mut readings = ReadingRows::new(rows, reading_names());
    let reading = |row| {
        let ReadingParts { device_id, head, data } = readings.parts(row);
        Arc::new(Reading::telemetry(device_id.into(), head, data))
    };
    (0..rows.num_rows()).map(reading).collect()
}

/// A row of `heartbeats` as a JSON object, without its identity in the log.
fn heartbeat(row: &RecordBatch) -> String {
    const IDENTITY: [&str; 4] = ["partition", "offset", "item", "date"];
    let schema = row.schema();
    let fields = schema.fields().iter().zip(row.columns());
    let shown = fields.filter(|(field, _)| !IDENTITY.contains(&field.name().as_str()));
    let mut columns: Vec<(Cells<'_>, Vec<u8>)> = shown
        .map(|(field, column)| {
            (Cells::of(column, false), format!("\"{}\":", field.name()).into_bytes())
        })
        .collect();
    let mut out = Vec::new();
    object(&mut columns, 0, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests;
