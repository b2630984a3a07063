//! What is known of the fleet's meters, for whatever counts.

use std::sync::Arc;

use acuvim_control::DeviceMeter;
use acuvim_lakehouse::{MeterTerms, Meters};
use chrono::Utc;

use crate::App;

/// Learns what counters can do, and of meters that took each other's place. Where that can't be learnt,
/// what was known before holds.
pub(crate) async fn learn(app: &App) {
    match app.control().device_meters().await {
        Ok(meters) => app.parts.engine.set_meters(meters_of(meters)),
        Err(error) => tracing::debug!(%error, "counters go by what was known of the meters"),
    }
    if let Err(error) = app.lake().learn_meter_changes(Utc::now().timestamp_micros()).await {
        tracing::debug!(%error, "counters go by the meters that were known");
    }
}

fn meters_of(meters: Vec<DeviceMeter>) -> Meters {
    let terms = |meter: DeviceMeter| {
        let terms = MeterTerms::of(meter.nominal_voltage_v, meter.max_power_kw, meter.counter_end);
        (Arc::from(meter.device_id), terms)
    };
    Meters(meters.into_iter().map(terms).collect())
}
