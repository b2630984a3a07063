//! `acuvim log repartition`: begins a new log with another number of partitions or on another system, once
//! everything of the old one is in the tables.

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::Lake;
use acuvim_log::LogTopic;
use anyhow::{Context as _, bail, ensure};
use chrono::{TimeDelta, Utc};

use super::print_line;
use crate::{
    cli::RepartitionArgs,
    serve::{self, AnyLog, PROCESS_LEASES, REPARTITION_LEASE},
    settings::Settings,
};

/// Longer than a repartitioning takes.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// Checks that no record would be left behind, then begins a new epoch of the log.
pub async fn run(args: RepartitionArgs) -> anyhow::Result<()> {
    let mut settings = Settings::load(&args.settings)?;
    ensure!(
        (1..=64).contains(&args.partitions),
        "--partitions is {}: allowed are 1 to 64",
        args.partitions
    );
    let control = serve::control(&settings).await?;
    // Taken before running processes are looked for, as each of them takes its own lease before it
    // looks for this one: one of the two always sees the other.
    let holder = uuid::Uuid::new_v4().to_string();
    let lease = control.hold_lease(REPARTITION_LEASE, &holder, Utc::now(), LEASE).await?;
    ensure!(lease.is_some(), "somebody else is laying the log out anew");
    let moved = lay_out(&args, &mut settings, &control).await;
    control.drop_lease(REPARTITION_LEASE, &holder, Utc::now()).await?;
    control.close().await;
    moved
}

async fn lay_out(
    args: &RepartitionArgs,
    settings: &mut Settings,
    control: &Control,
) -> anyhow::Result<()> {
    let Some(facts) = control.stored_log_facts().await? else {
        bail!("this system has never run: set log.partitions and start it");
    };
    nobody_runs(control).await?;
    if !args.old_log_is_lost
        && let Some(damage) = serve::damage(settings, facts).await?
    {
        bail!(
            "the lake is damaged ({}): start the server, which mends it from the log, stop it with SIGTERM, \
             and try again",
            damage.what().join("; ")
        );
    }
    let old = match args.old_log_is_lost {
        true => None,
        false => Some(OldLog::open(settings, control, facts).await?),
    };
    match &old {
        Some(old) => {
            old.is_flushed(control).await?;
            print_line(format!("everything of epoch {} is in the tables", facts.epoch))?;
        }
        None => print_line(format!("what of epoch {} is in no table is given up", facts.epoch))?,
    }

    if let Some(url) = &args.to {
        settings.log.url = (url != "embedded").then(|| url.clone());
    }
    let next = LogFacts { partitions: args.partitions, epoch: facts.epoch + 1 };
    let new = AnyLog::open(settings, next).await.context("the new log")?;
    let identity = new.identity().await?;
    print_line(format!(
        "made the log of epoch {} with {} partitions",
        next.epoch, next.partitions
    ))?;
    if let Some(old) = &old {
        old.is_flushed(control).await?;
    }
    ensure!(
        control.begin_epoch(facts, next.partitions, &identity).await?,
        "somebody else has laid the log out anew meanwhile"
    );
    // A process that was only paused can't append to the old topics from here on, so it acknowledges
    // nothing that would be lost.
    if let Some(old) = old {
        if let AnyLog::Kafka(log) = &old.log {
            log.delete_topics().await?;
        }
        old.log.close().await;
    }
    new.close().await;
    let place = args.to.as_ref().map(|url| format!(" and log.url = \"{url}\"")).unwrap_or_default();
    print_line(format!(
        "done: set log.partitions = {}{place} for every process, then start them",
        next.partitions
    ))
}

async fn nobody_runs(control: &Control) -> anyhow::Result<()> {
    let running = control.held_leases(PROCESS_LEASES, Utc::now()).await?;
    if running.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = running.iter().filter_map(|name| name.split(':').nth(1)).collect();
    bail!(
        "still running: {}; stop every process first (one that was killed is forgotten after 30 s)",
        names.join("; ")
    )
}

/// The old log, and the lake that must have all of its records.
struct OldLog {
    log: AnyLog,
    lake: Lake,
    facts: LogFacts,
}

impl OldLog {
    async fn open(settings: &Settings, control: &Control, facts: LogFacts) -> anyhow::Result<Self> {
        let log = AnyLog::open(settings, facts).await?;
        control.check_log(&log.identity().await?).await?;
        let lake = serve::lake(settings, facts, serve::engine(settings)?).await?;
        Ok(Self { log, lake, facts })
    }

    async fn is_flushed(&self, control: &Control) -> anyhow::Result<()> {
        let log = self.log.log();
        for partition in 0..self.facts.partitions {
            let end = log.bounds(LogTopic::Uplink, partition).await?.end;
            let stored = self.lake.next_offset(partition);
            let noted = control.offset(self.facts.epoch, partition).await?.unwrap_or(0);
            let (behind, who) = if stored < noted { (stored, "lake") } else { (noted, "control") };
            ensure!(
                behind >= end,
                "partition {partition} has {} records that {who} has not got: start the server, stop \
                 it with SIGTERM, and try again",
                end - behind
            );
        }
        Ok(())
    }
}
