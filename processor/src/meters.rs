//! Keeps up what is known of the fleet's meters, for whatever counts in this process: rollups, history,
//! SQL and the watch over suspect readings.

use std::{sync::Arc, time::Duration};

use acuvim_control::DeviceMeter;
use acuvim_lakehouse::{MeterTerms, Meters};
use tokio_util::sync::CancellationToken;

use crate::Parts;

/// How soon control is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// Learns what counters can do, at first and then as often as the rollups are brought up to date: all ways
/// to count take a change up together.
pub(crate) async fn follow(parts: Parts, interval: Duration, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = match parts.control.device_meters().await {
                Ok(meters) => {
                    parts.lake.engine().set_meters(meters_of(meters));
                    interval
                }
                Err(error) => {
                    tracing::debug!(%error, "counters go by what was known of the meters");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

fn meters_of(meters: Vec<DeviceMeter>) -> Meters {
    let terms = |meter: DeviceMeter| {
        let terms = MeterTerms::of(meter.nominal_voltage_v, meter.max_power_kw, meter.counter_end);
        (Arc::from(meter.device_id), terms)
    };
    Meters(meters.into_iter().map(terms).collect())
}
