//! Repairs the lake at the start. After a power cut its newest commits can be damaged; they are set
//! aside, and the processor writes their rows again from the log.

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::{Covered, Damage, Error, ErrorKind, Lake};
use acuvim_log::{ErrorKind as LogErrorKind, LogTopic};
use acuvim_processor::LAKE_CURSOR;
use chrono::{TimeDelta, Utc};

use super::{
    background::{PROCESS_LEASES, REPARTITION_LEASE},
    components::{AnyLog, lake_options},
};
use crate::settings::Settings;

/// Longer than any repair takes.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// Refuses a log that ends before the lake's offsets: it is another log or an older copy. Records that
/// it takes from now on would get offsets that the lake has already, and would be skipped.
pub async fn check_log_is_complete(
    log: &AnyLog,
    lake: &Lake,
    facts: LogFacts,
) -> anyhow::Result<()> {
    // Not on Kafka, whose brokers may report an older end for a moment; a reader there waits for it.
    for partition in (0..facts.partitions).filter(|_| !log.is_shared()) {
        let end = log.log().bounds(LogTopic::Uplink, partition).await?.end;
        let stored = lake.next_offset(partition);
        anyhow::ensure!(
            stored <= end,
            "the log ends at {end} in partition {partition} and the lake has its records up to {stored}: \
             it is an older copy of the log that the lake was written from. Put the newest copy back; or, \
             if that is lost, begin a new log with `acuvim log repartition --old-log-is-lost`"
        );
    }
    Ok(())
}

/// Sets a damaged lake back before it is opened, provided that the log still has every record that the
/// lake would lose and that no other process has the lake open. `own` is this process's lease.
pub async fn repair_lake(
    settings: &Settings,
    facts: LogFacts,
    log: &AnyLog,
    control: &Control,
    own: &str,
) -> Result<(), Error> {
    let options = lake_options(settings, facts)?;
    let Some(damage) = Damage::find(&options).await? else { return Ok(()) };
    for what in damage.what() {
        tracing::error!(%what, "the lake is damaged");
    }
    if !log.is_shared() {
        return set_back(log, facts, damage).await;
    }
    // Keeps others from starting meanwhile, since a starting process checks for this lease.
    let held = control.hold_lease(REPARTITION_LEASE, own, Utc::now(), LEASE).await;
    if held.map_err(|e| control_error(&e))?.is_none() {
        let text = "somebody else lays the log out anew, or mends the lake";
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    let done = async {
        nobody_else_runs(control, own).await?;
        // Another process may have repaired it before the lease was taken.
        match Damage::find(&options).await? {
            Some(damage) => set_back(log, facts, damage).await,
            None => Ok(()),
        }
    };
    let done = done.await;
    control.drop_lease(REPARTITION_LEASE, own, Utc::now()).await.map_err(|e| control_error(&e))?;
    done
}

/// Sets the damaged commits and all later ones aside, so that the tables end before them.
async fn set_back(log: &AnyLog, facts: LogFacts, damage: Damage) -> Result<(), Error> {
    if let Some(restart) = damage.restart() {
        check_log_has_records(log, facts, restart, &damage).await?;
        keep_records(log, facts, restart).await?;
    }
    let restart = damage.restart().cloned();
    damage.set_aside().await?;
    match restart {
        Some(from) => tracing::warn!(?from, "the lake was set back; the log is read again"),
        None => tracing::warn!("what was damaged of the lake was set aside"),
    }
    Ok(())
}

/// Fails if another process runs: it may have the lake open.
async fn nobody_else_runs(control: &Control, own: &str) -> Result<(), Error> {
    let held = control.held_leases(PROCESS_LEASES, Utc::now()).await;
    let held = held.map_err(|e| control_error(&e))?;
    let others: Vec<&str> =
        held.iter().filter(|name| *name != own).filter_map(|name| name.split(':').nth(1)).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Setup,
        format!(
            "the lake (lake.url) is damaged and other processes run: {}; stop every process, then \
             start one with the processor role before the others (one that was killed is forgotten \
             after 30 s)",
            others.join("; ")
        ),
    ))
}

/// Fails if the log no longer has the records that the tables would lose.
async fn check_log_has_records(
    log: &AnyLog,
    facts: LogFacts,
    restart: &Covered,
    damage: &Damage,
) -> Result<(), Error> {
    for partition in 0..facts.partitions {
        let from = restart.get(&partition).copied().unwrap_or(0);
        let bounds =
            log.log().bounds(LogTopic::Uplink, partition).await.map_err(|e| log_error(&e))?;
        if bounds.start > from {
            return Err(Error::new(
                ErrorKind::Setup,
                format!(
                    "the lake (lake.url) is damaged, and the log has lost the records {from} to {} \
                     of partition {partition} that it would be made anew from. Put the damaged \
                     files back from a copy; or give these records up: move the damaged version and \
                     all later ones out of the table's folder _delta_log, and start again. {}",
                    bounds.start - 1,
                    damage.what().join("; ")
                ),
            ));
        }
    }
    Ok(())
}

/// Moves the lake's cursor back, so that the embedded log keeps the records that are read again.
async fn keep_records(log: &AnyLog, facts: LogFacts, restart: &Covered) -> Result<(), Error> {
    for partition in (0..facts.partitions).filter(|_| !log.is_shared()) {
        let from = restart.get(&partition).copied().unwrap_or(0);
        let moved = log.log().set_cursor(LAKE_CURSOR, LogTopic::Uplink, partition, from).await;
        moved.map_err(|e| log_error(&e))?;
    }
    Ok(())
}

fn control_error(error: &acuvim_control::Error) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}

fn log_error(error: &acuvim_log::Error) -> Error {
    let kind = match error.kind() {
        LogErrorKind::Unavailable => ErrorKind::Unavailable,
        _ => ErrorKind::Setup,
    };
    Error::new(kind, error.to_string())
}
