//! The lake's upkeep: merges small files and removes what nobody needs any more, beside the stream
//! and never in its way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{Cleaned, Retained};
use acuvim_schemas::{tables::Table, time::day_of};
use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions};

/// Days that today may be ahead of a table's newest row, as far as retention believes it.
const AHEAD: i32 = 7;

/// The lease of the one process that does it, and how long it is held without being renewed.
const LEASE: &str = "upkeep";
const LEASE_SECONDS: i64 = 60;

/// How long files are merged before the lease is asked for again.
const TURN: Duration = Duration::from_secs(20);

/// Looks for work now and then, and does all there is.
pub(crate) async fn run(
    options: Arc<ProcessorOptions>,
    parts: Parts,
    holder: Arc<Holder>,
    stop: CancellationToken,
) {
    let work = async {
        let lake = &parts.lake;
        let mut next_cleaning = Instant::now() + options.first_cleanup;
        loop {
            tokio::time::sleep(options.compaction_interval).await;
            if options.shared && !holder.holds(&parts).await {
                continue;
            }
            let begun = Instant::now();
            // As long as there is something, but not beyond the lease and the next cleaning.
            while begun.elapsed() < TURN && Instant::now() < next_cleaning {
                match lake.compact(options.compaction, Utc::now().timestamp_micros()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "compaction failed; it is tried again");
                        break;
                    }
                }
            }
            if Instant::now() >= next_cleaning {
                next_cleaning = Instant::now() + options.cleanup_interval;
                clean(&options, &parts).await;
            }
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

/// Lets go of what is too old and of what nobody needs; what fails is tried again the next time.
async fn clean(options: &ProcessorOptions, parts: &Parts) {
    let now = Utc::now();
    match parts.control.prune(now - options.keep_history).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "control let go of old commands and audit"),
        Err(error) => tracing::warn!(%error, "pruning failed; it is tried again"),
    }
    for table in Table::ALL {
        let keep = options.retention.days(table);
        let now = now.timestamp_micros();
        // A clock that is years ahead must not empty the tables.
        let newest = parts.lake.newest_day(table).map_or(i32::MAX, |day| day.saturating_add(AHEAD));
        let before = day_of(now).min(newest).saturating_sub(keep);
        match parts.lake.retain(table, before, now).await {
            Ok(Retained { files: 0, .. }) => {}
            Ok(Retained { days, files, rows, bytes }) => {
                let table = table.name();
                metrics::counter!("acuvim_retention_rows_total", "table" => table)
                    .increment(rows as u64);
                tracing::info!(table, days, files, rows, bytes, "days older than is kept dropped");
            }
            Err(error) => {
                tracing::warn!(table = table.name(), %error, "retention failed; it is tried again");
            }
        }
    }
    match parts.lake.clean(options.keep_files).await {
        Ok(Cleaned { files, bytes, log_files }) => {
            metrics::counter!("acuvim_cleaned_bytes_total").increment(bytes);
            tracing::info!(files, bytes, log_files, "cleaned the lake");
        }
        Err(error) => tracing::warn!(%error, "cleaning failed; it is tried again"),
    }
}

/// Who looks after the tables: one process of all.
#[derive(Debug)]
pub(crate) struct Holder(String);

impl Holder {
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// Whether the work is this process's. Two that both think so do no harm: the second commit of a
    /// merge of the same files is refused, and so is one of rollups that another has moved on.
    pub async fn holds(&self, parts: &Parts) -> bool {
        let length = TimeDelta::seconds(LEASE_SECONDS);
        let held = parts.control.hold_lease(LEASE, &self.0, Utc::now(), length).await;
        matches!(held, Ok(Some(_)))
    }
}
