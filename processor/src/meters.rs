//! Keeps the terms of each device's meter, such as where its counters roll over, up to date in the
//! query engine: rollups, history, SQL and the check for suspect counters all count by them.

use std::{sync::Arc, time::Duration};

use acuvim_control::DeviceMeter;
use acuvim_lakehouse::{MeterTerms, Meters};
use tokio_util::sync::CancellationToken;

use crate::dependencies::Dependencies;

/// How long to wait before control is asked again after an error.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Reads the terms once at the start and then at every `interval`. It is the interval of the
/// rollups, so that everything that counts takes up a change at about the same time.
pub(crate) async fn run(dependencies: Dependencies, interval: Duration, stop: CancellationToken) {
    let work = async {
        loop {
            let pause = match dependencies.control.device_meters().await {
                Ok(meters) => {
                    dependencies.lake.engine().set_meters(terms_of(meters));
                    interval
                }
                Err(error) => {
                    // Counting by the terms of a moment ago is better than by none.
                    tracing::debug!(%error, "meter terms could not be read; the known ones stay");
                    RETRY_AFTER
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

fn terms_of(meters: Vec<DeviceMeter>) -> Meters {
    let terms = |meter: DeviceMeter| {
        let terms = MeterTerms::of(meter.nominal_voltage_v, meter.max_power_kw, meter.counter_end);
        (Arc::from(meter.device_id), terms)
    };
    Meters(meters.into_iter().map(terms).collect())
}
