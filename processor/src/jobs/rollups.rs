//! Keeps the rollups up to date, under the lease of the upkeep. Two processes that both believe that
//! they hold it do no harm: a commit of rollups is refused if another process has moved them on.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{Error, ErrorKind, MeterTerms, Meters, Zones};
use serde_json::value::RawValue;

use super::lease::JobLease;
use crate::{dependencies::Dependencies, options::ProcessorOptions};

/// The key in control of the meter terms by which the stored buckets were counted.
const COUNTED_BY: &str = "rollups.counted_by";

/// Devices that are recounted before the lease is asked for again.
const RECOUNT_CHUNK: usize = 50;

/// How long rollups are built before the lease is asked for again; well below its length.
const MAX_TURN: Duration = Duration::from_secs(20);

/// Brings the rollups up to date at an interval: with new readings, changed time zones and changed
/// meter terms.
pub(super) async fn run(
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    mut lease: JobLease,
) {
    // The time zones by which the days were last made; unknown at first, and after a turn of
    // another process.
    let mut applied: Option<Zones> = None;
    let mut pause = options.rollup_interval;
    loop {
        tokio::time::sleep(pause).await;
        pause = options.rollup_interval;
        if options.shared && !lease.is_held().await {
            // The other process may apply zones that differ from those known here.
            applied = None;
            continue;
        }
        match bring_up_to_date(&dependencies, &mut applied).await {
            Ok(Progress::UpToDate) => {}
            Ok(Progress::TurnOver) => pause = Duration::ZERO,
            Err(error) if error.kind() == ErrorKind::Overtaken => {
                tracing::info!(%error, "another process rolled up first");
            }
            Err(error) => tracing::warn!(%error, "the rollups failed; they are tried again"),
        }
    }
}

enum Progress {
    UpToDate,
    /// There is more to do, after the lease was asked for again.
    TurnOver,
}

async fn bring_up_to_date(
    dependencies: &Dependencies,
    applied: &mut Option<Zones>,
) -> Result<Progress, Error> {
    let (begun, lake) = (Instant::now(), &dependencies.lake);
    let known = (lake.engine().known_terms(), zones(dependencies).await);
    let (Some(meters), Some(zones)) = known else {
        tracing::debug!("the rollups wait for control");
        return Ok(Progress::UpToDate);
    };
    lake.catch_up().await?;
    if applied.as_ref() != Some(&zones) {
        lake.rezone(&lake.devices_to_rezone(&zones).await?, &zones).await?;
        *applied = Some(zones.clone());
    }
    if recount(dependencies, &meters, &zones).await? {
        return Ok(Progress::TurnOver);
    }
    let mut buckets = 0;
    while let Some(done) = lake.roll_up(&zones).await? {
        buckets += done.buckets;
        metrics::counter!("acuvim_rollup_buckets_total").increment(done.buckets as u64);
        // Readings that came meanwhile wait for the next interval.
        if !done.more {
            break;
        }
        if begun.elapsed() >= MAX_TURN {
            tracing::info!(buckets, "rollups are being built");
            return Ok(Progress::TurnOver);
        }
    }
    metrics::histogram!("acuvim_rollup_seconds").record(begun.elapsed());
    Ok(Progress::UpToDate)
}

/// Recounts the counters of some devices whose meter terms have changed since they were counted;
/// true if more devices wait.
async fn recount(
    dependencies: &Dependencies,
    meters: &Meters,
    zones: &Zones,
) -> Result<bool, Error> {
    let stored = match dependencies.control.remembered(COUNTED_BY).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::debug!(%error, "recounting waits for control");
            return Ok(false);
        }
    };
    let counted = match &stored {
        Some(text) => from_text(text),
        // Nothing recorded yet: all rollups were, or are being, counted by the terms known now.
        None => meters.clone(),
    };
    let others = meters.others_than(&counted);
    let chunk = others.get(..RECOUNT_CHUNK).unwrap_or(&others);
    if chunk.is_empty() && stored.is_some() {
        return Ok(false);
    }
    if !chunk.is_empty() {
        tracing::info!(devices = others.len(), "counters are recounted by changed meter terms");
        dependencies.lake.recount(chunk, zones).await?;
    }
    let text = to_text(&counted.with_terms_of(meters, chunk));
    if let Err(error) = dependencies.control.remember(COUNTED_BY, &text).await {
        // Recounting is idempotent.
        tracing::debug!(%error, "the recount could not be recorded; it is done again");
    }
    Ok(others.len() > chunk.len())
}

/// Each device's time zone; `None` while control does not answer.
async fn zones(dependencies: &Dependencies) -> Option<Zones> {
    dependencies.control.device_zones().await.ok().map(parsed_zones)
}

fn parsed_zones(zones: Vec<(String, String)>) -> Zones {
    let known = zones.into_iter().filter_map(|(device, zone)| {
        // Control accepts only known zones. One that the time zone database has dropped since is
        // treated as UTC.
        Some((Arc::from(device), zone.parse().ok()?))
    });
    Zones(known.collect())
}

/// The stored form of meter terms: by device the counters' end and their maximum per hour.
type StoredTerms = BTreeMap<String, (f64, f64)>;

fn to_text(meters: &Meters) -> String {
    let stored =
        |(id, terms): (&Arc<str>, &MeterTerms)| (id.to_string(), (terms.end, terms.per_hour));
    let all: StoredTerms = meters.0.iter().map(stored).collect();
    serde_json::to_string(&all).unwrap_or_default()
}

fn from_text(text: &str) -> Meters {
    // Read as text: serde_json rounds some numbers of 17 digits to a neighbour, and terms that differ from
    // those of the meter by one bit would be recounted for ever.
    let all: BTreeMap<String, [Box<RawValue>; 2]> = serde_json::from_str(text).unwrap_or_default();
    let terms = |(id, [end, per_hour]): (String, [Box<RawValue>; 2])| {
        let (end, per_hour) = (end.get().parse().ok()?, per_hour.get().parse().ok()?);
        Some((Arc::from(id), MeterTerms { end, per_hour }))
    };
    Meters(all.into_iter().filter_map(terms).collect())
}

#[cfg(test)]
mod tests;
