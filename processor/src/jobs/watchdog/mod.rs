//! Watches over the system itself: whether the ledger balances, whether components are away, and
//! whether the log keeps its records long enough. It also reminds people of alerts that nobody has
//! seen, and replays readings that have got a clock since.

mod clockless;
mod components;
mod ledger;
mod log_age;

use std::{sync::Arc, time::Duration};

use acuvim_log::LogTopic;

use super::lease::JobLease;
use crate::{
    api_time::api_now, dependencies::Dependencies, options::ProcessorOptions, state::StateSender,
};
use components::Outages;
use ledger::LedgerCheck;

/// Checks at an interval while the lease is held. Measuring needs no lease, since every process
/// exports its own metrics.
pub(super) async fn run(
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    state: StateSender,
    mut lease: JobLease,
) {
    let checks = async {
        let mut ledger = LedgerCheck::default();
        let mut outages = Outages::default();
        loop {
            tokio::time::sleep(options.watchdog_interval).await;
            if !lease.is_held().await {
                continue;
            }
            let found = outages.lasting(&state);
            if let Err(error) = check(&dependencies, &options, &mut ledger, found).await {
                tracing::debug!(%error, "a check was not completed; it is tried again");
            }
        }
    };
    // A check waits for the store while that is away, which is when the metrics matter most.
    let _: ((), ()) = tokio::join!(checks, measure(&dependencies, options.watchdog_interval));
}

/// Exports how far the tables are behind the log, and how much waits in memory.
async fn measure(dependencies: &Dependencies, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let size = *dependencies.lake.tail().size().borrow();
        metrics::gauge!("acuvim_tail_rows").set(size.rows as f64);
        metrics::gauge!("acuvim_tail_bytes").set(size.bytes as f64);
        for partition in 0..dependencies.log.partitions() {
            let covered = dependencies.lake.next_offset(partition);
            if let Ok(bounds) = dependencies.log.bounds(LogTopic::Uplink, partition).await {
                metrics::gauge!("acuvim_lake_lag_records", "partition" => partition.to_string())
                    .set((bounds.end - covered) as f64);
            }
        }
    }
}

async fn check(
    dependencies: &Dependencies,
    options: &ProcessorOptions,
    ledger: &mut LedgerCheck,
    outages: Vec<acuvim_control::SystemCondition>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (control, now) = (&dependencies.control, api_now());
    let mut found = outages;
    found.extend((options.conditions.0)());
    found.extend(log_age::expiring_partitions(dependencies, options).await);
    // First, because the checks after it wait for the store, whose outage may be among these.
    control.system_alerts("system", &found, now).await?;
    let faults = ledger.check(dependencies).await?;
    if !faults.is_empty() {
        control.system_faults(&faults, now).await?;
    }
    clockless::replay_clockless(dependencies).await?;
    let reminded = control.remind(&options.reminders, now).await?;
    metrics::counter!("acuvim_reminders_total").increment(reminded);
    Ok(())
}
