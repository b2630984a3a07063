//! Opens control, the log and the lake at the start, waiting for those that are unavailable.

use std::{collections::BTreeSet, sync::Arc};

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::Lake;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    background::{lease_name, register_process, renew_process_lease},
    components::{self, AnyLog, engine},
    instance::Instance,
    lake_repair::{check_log_is_complete, repair_lake},
    status::Stages,
};
use crate::settings::{Role, Settings};

/// The components that the stages work on.
pub struct Opened {
    pub control: Control,
    pub facts: LogFacts,
    pub log: AnyLog,
    /// For the processor and query roles.
    pub lake: Option<Arc<Lake>>,
    /// Renews the lease that says this process runs.
    pub lease_renewal: JoinHandle<()>,
}

/// Opens everything that the roles need. The process is registered before the log's layout is read,
/// so that nobody changes the layout under it.
pub async fn open(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    instance: &Arc<Instance>,
    end: &CancellationToken,
    stages: &Stages,
) -> anyhow::Result<Opened> {
    let control =
        stages.wait("control", is_away, async || components::control(settings).await).await?;
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let lease = lease_name(&names.join(","), instance);
    let register = async || register_process(&control, &lease, instance).await;
    stages.wait("control", is_away, register).await?;
    // Renewed from here on, however long the other components are waited for.
    let renewal =
        renew_process_lease(control.clone(), lease.clone(), Arc::clone(instance), end.clone());
    let lease_renewal = tokio::spawn(renewal);
    match open_log_and_lake(settings, roles, &control, &lease, stages).await {
        Ok((facts, log, lake)) => Ok(Opened { control, facts, log, lake, lease_renewal }),
        Err(error) => {
            // Drops the lease, so that others need not wait until it expires.
            end.cancel();
            let _ = lease_renewal.await;
            Err(error)
        }
    }
}

async fn open_log_and_lake(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    control: &Control,
    lease: &str,
    stages: &Stages,
) -> anyhow::Result<(LogFacts, AnyLog, Option<Arc<Lake>>)> {
    let facts = async || control.log_facts(settings.log.partitions).await;
    let facts = stages.wait("control", is_away, facts).await?;
    let log_is_away = |e: &acuvim_log::Error| e.kind() == acuvim_log::ErrorKind::Unavailable;
    let (log, identity) = stages
        .wait("log", log_is_away, async || {
            let log = AnyLog::open(settings, facts).await?;
            let identity = log.identity().await?;
            Ok((log, identity))
        })
        .await?;
    stages.wait("control", is_away, async || control.check_log(&identity).await).await?;
    if !roles.contains(&Role::Processor) && !roles.contains(&Role::Query) {
        return Ok((facts, log, None));
    }
    let engine = engine(settings)?;
    let lake_is_away =
        |e: &acuvim_lakehouse::Error| e.kind() == acuvim_lakehouse::ErrorKind::Unavailable;
    if roles.contains(&Role::Processor) {
        let repair = async || repair_lake(settings, facts, &log, control, lease).await;
        stages.wait("lake", lake_is_away, repair).await?;
    }
    let open = async || components::lake(settings, facts, engine.clone()).await;
    let lake = stages.wait("lake", lake_is_away, open).await?;
    check_log_is_complete(&log, &lake, facts).await?;
    Ok((facts, log, Some(Arc::new(lake))))
}

fn is_away(error: &acuvim_control::Error) -> bool {
    error.kind() == acuvim_control::ErrorKind::Unavailable
}
