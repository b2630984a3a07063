//! Tasks of a process beside its stages: housekeeping, and the lease that says the process runs.

use std::{sync::Arc, time::Duration};

use acuvim_control::{Control, Error, ErrorKind};
use chrono::{TimeDelta, Utc};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::{components::AnyLog, instance::Instance};
use crate::settings::Settings;

/// Prefix of the leases that running processes hold, so that nobody repartitions the log under them.
pub const PROCESS_LEASES: &str = "process:";
/// The lease of a repartitioning; no process starts while it is held.
pub const REPARTITION_LEASE: &str = "repartition";
/// Several renewals fit into it, so that a short outage of control does not lose the lease.
const PROCESS_LEASE: TimeDelta = TimeDelta::seconds(30);
const RENEW_INTERVAL: Duration = Duration::from_secs(8);

const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// The log's retention runs once in this many metrics intervals: every minute.
const TICKS_PER_RETENTION: u64 = 12;

/// Keeps the metrics' histograms small, and applies the embedded log's retention.
pub async fn upkeep(
    log: AnyLog,
    settings: Arc<Settings>,
    metrics: PrometheusHandle,
    end: CancellationToken,
) {
    let work = async {
        let mut ticks = tokio::time::interval(METRICS_INTERVAL);
        for tick in 0_u64.. {
            ticks.tick().await;
            metrics.run_upkeep();
            // Half an interval after the start, when the process is no longer busy with it.
            if tick % TICKS_PER_RETENTION == TICKS_PER_RETENTION / 2 {
                match log.retain(&settings).await {
                    Ok(0) => {}
                    Ok(bytes) => tracing::info!(bytes, "the log let go of old segments"),
                    Err(error) => tracing::warn!(%error, "the log's retention failed"),
                }
            }
        }
    };
    end.run_until_cancelled(Box::pin(work)).await;
}

/// Takes the process's lease. Fails as unavailable while the log is being repartitioned. The lease is
/// taken before that is checked, and a repartitioning does it the other way round, so that one of the
/// two always sees the other.
pub async fn register_process(
    control: &Control,
    lease: &str,
    instance: &Instance,
) -> Result<(), Error> {
    control.hold_lease(lease, &instance.id, Utc::now(), PROCESS_LEASE).await?;
    if control.held_leases(REPARTITION_LEASE, Utc::now()).await?.is_empty() {
        return Ok(());
    }
    control.drop_lease(lease, &instance.id, Utc::now()).await?;
    Err(Error::new(ErrorKind::Unavailable, "the log is being laid out anew"))
}

/// The name of a process's lease.
pub fn lease_name(roles: &str, instance: &Instance) -> String {
    format!("{PROCESS_LEASES}{roles}:{}", instance.id)
}

/// Renews the process's lease, and drops it at the end.
pub async fn renew_process_lease(
    control: Control,
    lease: String,
    instance: Arc<Instance>,
    end: CancellationToken,
) {
    let holder = instance.id.as_str();
    let work = async {
        loop {
            if let Err(error) = control.hold_lease(&lease, holder, Utc::now(), PROCESS_LEASE).await
            {
                tracing::debug!(%error, "the process's lease was not renewed");
            }
            tokio::time::sleep(RENEW_INTERVAL).await;
        }
    };
    end.run_until_cancelled(Box::pin(work)).await;
    let _ = control.drop_lease(&lease, holder, Utc::now()).await;
}
