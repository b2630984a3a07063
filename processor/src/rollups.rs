//! Keeps the rollups up, beside the stream: one process does, the one that looks after the tables.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::{Error, Zones};
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions, upkeep::Holder};

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
    let zones = match parts.control.device_zones().await {
        Ok(zones) => zones_of(zones),
        Err(error) => {
            tracing::debug!(%error, "the rollups wait for control");
            return Ok(Ended::UpToDate);
        }
    };
    lake.catch_up().await?;
    if applied.as_ref() != Some(&zones) {
        lake.rezone(&lake.zoned_otherwise(&zones).await?, &zones).await?;
        *applied = Some(zones.clone());
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

fn zones_of(zones: Vec<(String, String)>) -> Zones {
    let known = zones.into_iter().filter_map(|(device, zone)| {
        // Control takes no zone that it does not know; one that is gone since is UTC.
        Some((Arc::from(device), zone.parse().ok()?))
    });
    Zones(known.collect())
}
