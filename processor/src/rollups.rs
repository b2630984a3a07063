//! Keeps the rollups up, beside the stream: one process does, the one that looks after the tables.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::DeviceMeter;
use acuvim_lakehouse::{Error, MeterTerms, Meters, Zones};
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions, upkeep::Holder};

/// Where control keeps by what the counters of stored buckets were counted.
const COUNTED_BY: &str = "rollups.counted_by";

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
            // Every process judges counters as they come.
            match parts.control.device_meters().await {
                Ok(meters) => parts.lake.engine().set_meters(meters_of(meters)),
                Err(error) => tracing::debug!(%error, "meters are not known anew"),
            }
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
    let (zones, counted) = match known(parts).await {
        Ok(known) => known,
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
    let meters = lake.engine().meters();
    let others = meters.others_than(&counted);
    if !others.is_empty() {
        tracing::info!(devices = others.len(), "counters are counted anew by what meters can do");
        lake.recount(&others, &zones).await?;
        if let Err(error) = parts.control.remember(COUNTED_BY, &as_text(&meters)).await {
            tracing::debug!(%error, "what counters are counted by is noted the next time");
        }
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

/// Whose days are whose calendar's, and by what the stored buckets' counters were counted.
async fn known(parts: &Parts) -> Result<(Zones, Meters), acuvim_control::Error> {
    let zones = zones_of(parts.control.device_zones().await?);
    let counted = parts.control.remembered(COUNTED_BY).await?;
    Ok((zones, counted.map(|text| of_text(&text)).unwrap_or_default()))
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
