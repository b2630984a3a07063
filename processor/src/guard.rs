//! The watch over the system itself: does the ledger balance, are the components there, does the log
//! last; and over people: is an alert seen by anybody. One process does it at a time.

mod ledger;
mod letters;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use acuvim_control::SystemCondition;
use acuvim_log::{LogTopic, ReadLimit};
use acuvim_schemas::{Record, payload::Severity};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions, notes::moment, state::StateSender};
use ledger::LedgerCheck;

/// The lease of the one process that watches, and how long it is held without being renewed.
const LEASE: &str = "guard";
const LEASE_LENGTH: TimeDelta = TimeDelta::seconds(90);

/// How long a component may be away until that is an alert.
const AWAY_FOR: Duration = Duration::from_secs(60);

/// How much of the log's time may be used up by what the lake has not got.
const LOG_USED: f64 = 0.5;

/// Watches until the end.
pub(crate) async fn run(
    parts: Parts,
    options: std::sync::Arc<ProcessorOptions>,
    state: StateSender,
    stop: CancellationToken,
) {
    let holder = uuid::Uuid::new_v4().to_string();
    let work = async {
        let mut check = LedgerCheck::default();
        let mut since: HashMap<&'static str, Instant> = HashMap::new();
        loop {
            tokio::time::sleep(options.guard_interval).await;
            let now = Utc::now();
            let held = parts.control.hold_lease(LEASE, &holder, now, LEASE_LENGTH).await;
            if !matches!(held, Ok(Some(_))) {
                continue;
            }
            if let Err(error) = look(&parts, &options, &state, &mut check, &mut since).await {
                tracing::debug!(%error, "the watch was not complete; it goes on");
            }
        }
    };
    // Beside it, since a look waits for the store, and that is when this matters.
    let both = async { tokio::join!(work, measure(&parts, options.guard_interval)) };
    stop.run_until_cancelled(Box::pin(both)).await;
    let _ = parts.control.drop_lease(LEASE, &holder, Utc::now()).await;
}

/// Tells how far the tables are behind the log, and what waits in memory.
async fn measure(parts: &Parts, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let size = *parts.lake.tail().size().borrow();
        metrics::gauge!("acuvim_tail_rows").set(size.rows as f64);
        metrics::gauge!("acuvim_tail_bytes").set(size.bytes as f64);
        for partition in 0..parts.log.partitions() {
            let covered = parts.lake.next_offset(partition);
            if let Ok(bounds) = parts.log.bounds(LogTopic::Uplink, partition).await {
                metrics::gauge!("acuvim_lake_lag_records", "partition" => partition.to_string())
                    .set((bounds.end - covered) as f64);
            }
        }
    }
}

async fn look(
    parts: &Parts,
    options: &ProcessorOptions,
    state: &StateSender,
    check: &mut LedgerCheck,
    since: &mut HashMap<&'static str, Instant>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = moment(Utc::now().timestamp_micros());
    let mut wrong = components(state, since);
    wrong.extend((options.conditions.0)());
    wrong.extend(log_running_out(parts, options).await);
    parts.control.system_alerts("system", &wrong, now).await?;
    let faults = check.look(parts).await?;
    if !faults.is_empty() {
        parts.control.system_faults(&faults, now).await?;
    }
    letters::replay_clockless(parts).await?;
    let reminded = parts.control.remind(&options.reminders, now).await?;
    metrics::counter!("acuvim_reminders_total").increment(reminded);
    Ok(())
}

/// Components that have been away for a while.
fn components(
    state: &StateSender,
    since: &mut HashMap<&'static str, Instant>,
) -> Vec<SystemCondition> {
    let troubles = state.troubles();
    since.retain(|name, _| troubles.iter().any(|(n, _)| n == name));
    let mut wrong = Vec::new();
    for (name, reason) in troubles {
        if since.entry(name).or_insert_with(Instant::now).elapsed() >= AWAY_FOR {
            wrong.push(SystemCondition {
                alert_type: "component_away",
                subject: name.to_owned(),
                severity: Severity::Critical,
                message: format!("{name} has been away for more than a minute: {reason}"),
                metadata: json!({ "component": name, "reason": reason }),
            });
        }
    }
    wrong
}

/// Partitions whose oldest record that is in no table is old enough to be dropped before long.
async fn log_running_out(parts: &Parts, options: &ProcessorOptions) -> Vec<SystemCondition> {
    let mut wrong = Vec::new();
    let one = ReadLimit { records: 1, bytes: 1, wait: Duration::ZERO };
    for partition in 0..parts.log.partitions() {
        let from = parts.lake.next_offset(partition);
        let Ok(batch) = parts.log.read(LogTopic::Uplink, partition, from, one).await else {
            continue;
        };
        let record = batch.entries.first().and_then(|(_, entry)| Record::try_from(entry).ok());
        let Some(record) = record else { continue };
        let age = Utc::now().timestamp_micros() - record.headers.received_at;
        let kept = options.log_retention.as_micros() as f64;
        let left = (kept - age as f64) / 86_400e6;
        metrics::gauge!("acuvim_log_days_left", "partition" => partition.to_string()).set(left);
        if age as f64 > kept * LOG_USED {
            wrong.push(SystemCondition {
                alert_type: "log_running_out",
                subject: partition.to_string(),
                severity: Severity::Critical,
                message: format!(
                    "partition {partition}: records that are in no table are dropped in {left:.1} \
                     days; bring the lake back, or keep the log longer (log.retention_hours)"
                ),
                metadata: json!({ "partition": partition, "next_offset": from, "days_left": left }),
            });
        }
    }
    wrong
}
