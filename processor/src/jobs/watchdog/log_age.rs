//! Records that the log may drop before the lake has them.

use std::time::Duration;

use acuvim_control::SystemCondition;
use acuvim_log::{LogTopic, ReadLimit};
use acuvim_wire::{Record, payload::Severity};
use chrono::Utc;
use serde_json::json;

use crate::{dependencies::Dependencies, options::ProcessorOptions};

/// The share of the log's retention after which an unflushed record raises an alert: it leaves
/// people as much time again to repair the lake.
const ALERT_AT_AGE: f64 = 0.5;

/// Alerts for the partitions whose oldest record that is in no table will be dropped before long.
pub(super) async fn expiring_partitions(
    dependencies: &Dependencies,
    options: &ProcessorOptions,
) -> Vec<SystemCondition> {
    let mut found = Vec::new();
    let one = ReadLimit { records: 1, bytes: 1, wait: Duration::ZERO };
    for partition in 0..dependencies.log.partitions() {
        let from = dependencies.lake.next_offset(partition);
        let read = dependencies.log.read(LogTopic::Uplink, partition, from, one).await;
        let Ok(batch) = read else { continue };
        let record = batch.entries.first().and_then(|(_, entry)| Record::try_from(entry).ok());
        let Some(record) = record else { continue };
        let age = Utc::now().timestamp_micros() - record.headers.received_at;
        let kept = options.log_retention.as_micros() as f64;
        let left = (kept - age as f64) / 86_400e6;
        metrics::gauge!("acuvim_log_days_left", "partition" => partition.to_string()).set(left);
        if age as f64 > kept * ALERT_AT_AGE {
            found.push(SystemCondition {
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
    found
}
