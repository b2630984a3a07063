//! Keeps the rollups up, beside the stream: one process does, the one that looks after the tables.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::DeviceMeter;
use acuvim_lakehouse::{Error, MeterTerms, Meters, Zones};
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
        // By which calendars and meters the buckets were last made; not known at first.
        let mut applied: Option<(Zones, Meters)> = None;
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

async fn keep_up(parts: &Parts, applied: &mut Option<(Zones, Meters)>) -> Result<Ended, Error> {
    let (begun, lake) = (Instant::now(), &parts.lake);
    let (zones, meters) = match known(parts).await {
        Ok(known) => known,
        Err(error) => {
            tracing::debug!(%error, "the rollups wait for control");
            return Ok(Ended::UpToDate);
        }
    };
    lake.catch_up().await?;
    lake.engine().set_meters(meters.clone());
    if applied.as_ref().map(|(zones, _)| zones) != Some(&zones) {
        lake.rezone(&lake.zoned_otherwise(&zones).await?, &zones).await?;
    }
    if let Some((_, before)) = applied {
        lake.recount(&meters.others_than(before), &zones).await?;
    }
    *applied = Some((zones.clone(), meters));
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

async fn known(parts: &Parts) -> Result<(Zones, Meters), acuvim_control::Error> {
    let zones = zones_of(parts.control.device_zones().await?);
    Ok((zones, meters_of(parts.control.device_meters().await?)))
}

fn meters_of(meters: Vec<DeviceMeter>) -> Meters {
    let terms = |meter: DeviceMeter| {
        let terms = MeterTerms::of(meter.nominal_voltage_v, meter.max_power_kw, meter.counter_end);
        (Arc::from(meter.device_id), terms)
    };
    Meters(meters.into_iter().map(terms).collect())
}

fn zones_of(zones: Vec<(String, String)>) -> Zones {
    let known = zones.into_iter().filter_map(|(device, zone)| {
        // Control takes no zone that it does not know; one that is gone since is UTC.
        Some((Arc::from(device), zone.parse().ok()?))
    });
    Zones(known.collect())
}
