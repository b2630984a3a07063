//! A start after a power cut: what is damaged of the lake's newest commits is set aside, and made anew
//! from the log.

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::{Covered, Damage, Error, ErrorKind, Lake};
use acuvim_log::{ErrorKind as LogErrorKind, LogTopic};
use acuvim_processor::LAKE_CURSOR;
use chrono::{TimeDelta, Utc};

use super::{AnyLog, PROCESS_LEASES, REPARTITION_LEASE, parts::lake_options};
use crate::settings::Settings;

/// Longer than it takes.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// A log that ends before what the lake has of it is not the one that the lake was written from, or an
/// older copy of it: what it takes from now on would be passed over as known.
pub async fn log_is_whole(log: &AnyLog, lake: &Lake, facts: LogFacts) -> anyhow::Result<()> {
    // Brokers may take a moment to agree on where a log ends; a read that finds it short waits for that.
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

/// Looks at the lake before it is opened. It goes back only if the log still has what it would lose,
/// and nobody else has it open; `own` is this process's lease.
pub async fn mend(
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
    // Nobody comes in meanwhile: a process that starts looks for this lease.
    let held = control.hold_lease(REPARTITION_LEASE, own, Utc::now(), LEASE).await;
    if held.map_err(|e| of_control(&e))?.is_none() {
        let text = "somebody else lays the log out anew, or mends the lake";
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    let done = async {
        nobody_else_runs(control, own).await?;
        // Somebody may have mended it before that.
        match Damage::find(&options).await? {
            Some(damage) => set_back(log, facts, damage).await,
            None => Ok(()),
        }
    };
    let done = done.await;
    control.drop_lease(REPARTITION_LEASE, own, Utc::now()).await.map_err(|e| of_control(&e))?;
    done
}

/// Sets the lake back to where it is whole.
async fn set_back(log: &AnyLog, facts: LogFacts, damage: Damage) -> Result<(), Error> {
    if let Some(restart) = damage.restart() {
        still_there(log, facts, restart, &damage).await?;
        hold(log, facts, restart).await?;
    }
    let restart = damage.restart().cloned();
    damage.set_aside().await?;
    match restart {
        Some(from) => tracing::warn!(?from, "the lake was set back; the log is read again"),
        None => tracing::warn!("what was damaged of the lake was set aside"),
    }
    Ok(())
}

/// On a log that others share they may have the lake open too.
async fn nobody_else_runs(control: &Control, own: &str) -> Result<(), Error> {
    let held = control.held_leases(PROCESS_LEASES, Utc::now()).await;
    let held = held.map_err(|e| of_control(&e))?;
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

/// What the tables lose must be in the log.
async fn still_there(
    log: &AnyLog,
    facts: LogFacts,
    restart: &Covered,
    damage: &Damage,
) -> Result<(), Error> {
    for partition in 0..facts.partitions {
        let from = restart.get(&partition).copied().unwrap_or(0);
        let bounds = log.log().bounds(LogTopic::Uplink, partition).await.map_err(|e| of_log(&e))?;
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

/// The embedded log lets go of nothing that is about to be read again.
async fn hold(log: &AnyLog, facts: LogFacts, restart: &Covered) -> Result<(), Error> {
    for partition in (0..facts.partitions).filter(|_| !log.is_shared()) {
        let from = restart.get(&partition).copied().unwrap_or(0);
        let noted = log.log().set_cursor(LAKE_CURSOR, LogTopic::Uplink, partition, from).await;
        noted.map_err(|e| of_log(&e))?;
    }
    Ok(())
}

fn of_control(error: &acuvim_control::Error) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}

fn of_log(error: &acuvim_log::Error) -> Error {
    let kind = match error.kind() {
        LogErrorKind::Unavailable => ErrorKind::Unavailable,
        _ => ErrorKind::Setup,
    };
    Error::new(kind, error.to_string())
}
