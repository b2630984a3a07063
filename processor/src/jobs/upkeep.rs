//! Upkeep of the tables: merges small files, and removes rows past retention and files that no
//! reader needs. Two processes that both believe that they hold the lease do no harm: the second
//! commit of a merge of the same files is refused.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{Cleaned, ErrorKind, Retained};
use acuvim_tables::Table;
use acuvim_wire::time::day_of;
use chrono::{DateTime, Utc};

use super::lease::JobLease;
use crate::{dependencies::Dependencies, options::ProcessorOptions};

/// How many days ahead of a table's newest row retention believes the clock: a clock that is years
/// ahead must not empty the tables.
const CLOCK_TRUST_DAYS: i32 = 7;

/// How long files are merged before the lease is asked for again; well below its length.
const MAX_TURN: Duration = Duration::from_secs(20);

/// Looks for work at an interval, and does all there is.
pub(super) async fn run(
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    mut lease: JobLease,
) {
    let mut next_cleanup = Instant::now() + options.first_cleanup;
    loop {
        tokio::time::sleep(options.compaction_interval).await;
        // A process that has the log for itself is the only one that writes the tables.
        if options.shared && !lease.is_held().await {
            continue;
        }
        compact(&options, &dependencies, next_cleanup).await;
        if Instant::now() >= next_cleanup {
            next_cleanup = Instant::now() + options.cleanup_interval;
            clean_up(&options, &dependencies).await;
        }
    }
}

/// Merges files as long as there are any to merge, but not beyond the turn and the next cleanup.
async fn compact(options: &ProcessorOptions, dependencies: &Dependencies, next_cleanup: Instant) {
    let begun = Instant::now();
    while begun.elapsed() < MAX_TURN && Instant::now() < next_cleanup {
        let now = Utc::now().timestamp_micros();
        match dependencies.lake.compact(options.compaction, now).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "compaction failed; it is tried again");
                break;
            }
        }
    }
}

/// Removes rows past retention and files that are no longer needed. A step that fails is tried
/// again at the next cleanup.
async fn clean_up(options: &ProcessorOptions, dependencies: &Dependencies) {
    let now = Utc::now();
    match dependencies.control.prune(now - options.keep_history).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "old commands and audit entries removed from control"),
        Err(error) => tracing::warn!(%error, "pruning failed; it is tried again"),
    }
    // Retention comes before cleaning, which removes the files that it has dropped from the tables.
    for table in Table::ALL {
        drop_old_days(options, dependencies, table, now).await;
    }
    match dependencies.lake.clean(options.keep_files).await {
        Ok(Cleaned { files, bytes, log_files }) => {
            metrics::counter!("acuvim_cleaned_bytes_total").increment(bytes);
            tracing::info!(files, bytes, log_files, "cleaned the lake");
        }
        Err(error) => tracing::warn!(%error, "cleaning failed; it is tried again"),
    }
}

async fn drop_old_days(
    options: &ProcessorOptions,
    dependencies: &Dependencies,
    table: Table,
    now: DateTime<Utc>,
) {
    let (lake, now) = (&dependencies.lake, now.timestamp_micros());
    let before = first_kept_day(day_of(now), lake.newest_day(table), options.retention.days(table));
    match lake.retain(table, before, now).await {
        Ok(Retained { files: 0, .. }) => {}
        Ok(Retained { days, files, rows, bytes }) => {
            let table = table.name();
            metrics::counter!("acuvim_retention_rows_total", "table" => table)
                .increment(rows as u64);
            tracing::info!(table, days, files, rows, bytes, "days past retention dropped");
        }
        Err(error) if error.kind() == ErrorKind::Overtaken => {
            tracing::info!(table = table.name(), %error, "another process committed first");
        }
        Err(error) => {
            tracing::warn!(table = table.name(), %error, "retention failed; it is tried again");
        }
    }
}

/// The first day that a table keeps, counted from today, or from shortly behind its newest row if that is
/// earlier.
fn first_kept_day(today: i32, newest: Option<i32>, days: i32) -> i32 {
    let latest = newest.map_or(i32::MAX, |day| day.saturating_add(CLOCK_TRUST_DAYS));
    today.min(latest).saturating_sub(days)
}

#[cfg(test)]
mod tests;
