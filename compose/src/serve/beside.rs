//! What a process does beside its stages: housekeeping, and saying that it is there.

use std::{sync::Arc, time::Duration};

use acuvim_control::Control;
use chrono::{TimeDelta, Utc};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::{AnyLog, instance::Instance};
use crate::settings::Settings;

/// The leases that say which processes run, so that nobody lays the log out anew under them.
pub const PROCESS_LEASES: &str = "process:";
/// Held while the log is laid out anew: nobody starts meanwhile.
pub const REPARTITION_LEASE: &str = "repartition";
const PROCESS_LEASE: TimeDelta = TimeDelta::seconds(30);
const PROCESS_RENEWED: Duration = Duration::from_secs(8);

/// What is done now and then beside the stages.
pub async fn upkeep(
    log: AnyLog,
    settings: Arc<Settings>,
    metrics: PrometheusHandle,
    end: CancellationToken,
) {
    let work = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        for tick in 0_u64.. {
            ticks.tick().await;
            metrics.run_upkeep();
            if tick % 12 == 6 {
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

/// Says that this process runs, before it looks at the log's layout, and waits while that is being
/// changed.
pub async fn enter(
    control: &Control,
    roles: &str,
    instance: &Instance,
) -> Result<(), acuvim_control::Error> {
    let name = lease_name(roles, instance);
    control.hold_lease(&name, &instance.id, Utc::now(), PROCESS_LEASE).await?;
    if control.held_leases(REPARTITION_LEASE, Utc::now()).await?.is_empty() {
        return Ok(());
    }
    control.drop_lease(&name, &instance.id, Utc::now()).await?;
    Err(acuvim_control::Error::new(
        acuvim_control::ErrorKind::Unavailable,
        "the log is being laid out anew",
    ))
}

pub fn lease_name(roles: &str, instance: &Instance) -> String {
    format!("{PROCESS_LEASES}{roles}:{}", instance.id)
}

/// Holds a lease that says this process runs.
pub async fn say_alive(
    control: Control,
    roles: String,
    instance: Arc<Instance>,
    end: CancellationToken,
) {
    let (name, holder) = (lease_name(&roles, &instance), instance.id.as_str());
    let work = async {
        loop {
            if let Err(error) = control.hold_lease(&name, holder, Utc::now(), PROCESS_LEASE).await {
                tracing::debug!(%error, "the process's lease was not renewed");
            }
            tokio::time::sleep(PROCESS_RENEWED).await;
        }
    };
    end.run_until_cancelled(Box::pin(work)).await;
    let _ = control.drop_lease(&name, holder, Utc::now()).await;
}
