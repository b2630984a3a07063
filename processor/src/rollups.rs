//! Keeps the rollups up, beside the stream: one process does, the one that looks after the tables.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{Error, MeterTerms, Meters, Zones};
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions, upkeep::Holder};

/// Where control keeps by what the counters of stored buckets were counted.
const COUNTED_BY: &str = "rollups.counted_by";

/// Devices that are counted anew before the lease is asked for again.
const AT_ONCE: usize = 50;

/// How long it goes on before the lease is asked for again.
const TURN: Duration = Duration::from_secs(20);

/// Looks for readings that are in no rollup, and for calendars that have changed.
pub(crate) async fn run(
    options: Arc<ProcessorOptions>,
    parts: Parts,
    holder: Arc<Holder>,
    stop: CancellationToken,
) {
    let work = async {
        // By which calendars the days were last made; not known at first.
        let mut applied: Option<Zones> = None;
        let mut pause = options.rollup_interval;
        loop {
            tokio::time::sleep(pause).await;
            pause = options.rollup_interval;
            if options.shared && !holder.holds(&parts).await {
                applied = None;
                continue;
            }
            match keep_up(&parts, &mut applied).await {
                Ok(Ended::UpToDate) => {}
                Ok(Ended::TurnOver) => pause = Duration::ZERO,
                Err(error) => tracing::warn!(%error, "the rollups failed; they are tried again"),
            }
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

enum Ended {
    UpToDate,
    TurnOver,
}

async fn keep_up(parts: &Parts, applied: &mut Option<Zones>) -> Result<Ended, Error> {
    let (begun, lake) = (Instant::now(), &parts.lake);
    let known = (lake.engine().known_terms(), zones(parts).await);
    let (Some(meters), Some(zones)) = known else {
        tracing::debug!("the rollups wait for control");
        return Ok(Ended::UpToDate);
    };
    lake.catch_up().await?;
    if applied.as_ref() != Some(&zones) {
        lake.rezone(&lake.zoned_otherwise(&zones).await?, &zones).await?;
        *applied = Some(zones.clone());
    }
    if recount(parts, &meters, &zones).await? {
        return Ok(Ended::TurnOver);
    }
    let mut buckets = 0;
    while let Some(done) = lake.roll_up(&zones).await? {
        buckets += done.buckets;
        metrics::counter!("acuvim_rollup_buckets_total").increment(done.buckets as u64);
        // What has come meanwhile waits for the next time.
        if !done.more {
            break;
        }
        if begun.elapsed() >= TURN {
            tracing::info!(buckets, "rollups are being built");
            return Ok(Ended::TurnOver);
        }
    }
    metrics::histogram!("acuvim_rollup_seconds").record(begun.elapsed());
    Ok(Ended::UpToDate)
}

/// Counts some devices' counters anew that were counted by something else than what their meters can do;
/// true if there are more of them.
async fn recount(parts: &Parts, meters: &Meters, zones: &Zones) -> Result<bool, Error> {
    let stored = match parts.control.remembered(COUNTED_BY).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::debug!(%error, "counters are counted anew once control answers");
            return Ok(false);
        }
    };
    let counted = match &stored {
        Some(text) => of_text(text),
        // All that there is was, or is being, made by what is known now.
        None => meters.clone(),
    };
    let others = meters.others_than(&counted);
    let some = others.get(..AT_ONCE).unwrap_or(&others);
    if some.is_empty() && stored.is_some() {
        return Ok(false);
    }
    if !some.is_empty() {
        tracing::info!(devices = others.len(), "counters are counted anew by what meters can do");
        parts.lake.recount(some, zones).await?;
    }
    let text = as_text(&counted.with_terms_of(meters, some));
    if let Err(error) = parts.control.remember(COUNTED_BY, &text).await {
        tracing::debug!(%error, "these counters are counted anew once more");
    }
    Ok(others.len() > some.len())
}

/// Whose days are whose calendar's; none while control does not answer.
async fn zones(parts: &Parts) -> Option<Zones> {
    parts.control.device_zones().await.ok().map(zones_of)
}

/// The end and the most in an hour of each device's counters, where they are not as all are.
type Counted = BTreeMap<String, (f64, f64)>;

fn as_text(meters: &Meters) -> String {
    let of = |(id, terms): (&Arc<str>, &MeterTerms)| (id.to_string(), (terms.end, terms.per_hour));
    let all: Counted = meters.0.iter().map(of).collect();
    serde_json::to_string(&all).unwrap_or_default()
}

fn of_text(text: &str) -> Meters {
    let all: Counted = serde_json::from_str(text).unwrap_or_default();
    let of =
        |(id, (end, per_hour)): (String, (f64, f64))| (Arc::from(id), MeterTerms { end, per_hour });
    Meters(all.into_iter().map(of).collect())
}

fn zones_of(zones: Vec<(String, String)>) -> Zones {
    let known = zones.into_iter().filter_map(|(device, zone)| {
        // Control takes no zone that it does not know; one that is gone since is UTC.
        Some((Arc::from(device), zone.parse().ok()?))
    });
    Zones(known.collect())
}
