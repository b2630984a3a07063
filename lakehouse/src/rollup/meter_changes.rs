//! Finds out from heartbeats when meters were replaced.

use std::{sync::Arc, time::Duration};

use acuvim_tables::Table;
use acuvim_wire::{Micros, time::DAY};
use arrow::array::AsArray as _;
use datafusion::{
    functions_aggregate::expr_fn::{max, min},
    prelude::col,
};

use super::sources::{Serials, serials_in};
use crate::{
    batch::{column, timestamp},
    error::Error,
    view::{MeterChanges, Reader},
};

/// How long found changes are used before they are looked up again.
pub(super) const FRESH: Duration = Duration::from_secs(30);

/// How far back heartbeats are read where daily rollups have the serial numbers of earlier days.
const RECENT: Micros = 3 * DAY;

/// The times at which meters were replaced, by device.
pub(super) async fn find(
    reader: &Reader,
    rollups_are_built: bool,
    now: Micros,
) -> Result<MeterChanges, Error> {
    // Few devices have ever had two meters. Only their heartbeats are read in full.
    let devices = with_several_serials(reader, rollups_are_built, now).await?;
    if devices.is_empty() {
        return Ok(MeterChanges::new());
    }
    let heartbeats = reader.hot(Table::Heartbeats)?;
    let names: Vec<&str> = devices.iter().map(|device| &**device).collect();
    let serials = serials_in(reader, heartbeats, &names, &(Micros::MIN..Micros::MAX)).await?;
    Ok(changes_of(&serials))
}

/// Devices that have reported more than one serial number.
async fn with_several_serials(
    reader: &Reader,
    rollups_are_built: bool,
    now: Micros,
) -> Result<Vec<Arc<str>>, Error> {
    let reported = col("meter_serial").is_not_null();
    let recent = match rollups_are_built {
        true => reported.clone().and(col("ts").gt_eq(timestamp(now - RECENT))),
        false => reported.clone(),
    };
    let wanted = ["device_id", "meter_serial"];
    let view = reader.view(true)?;
    let (heartbeats, days) = (view.table(Table::Heartbeats), view.table(Table::RollupDaily));
    let (Some(heartbeats), Some(days)) = (heartbeats, days) else { return Ok(Vec::new()) };
    let session = reader.engine.session();
    let heartbeats =
        session.read_table(heartbeats as _)?.filter(recent)?.select_columns(&wanted)?;
    let days = session.read_table(days as _)?.filter(reported)?.select_columns(&wanted)?;
    let rows = heartbeats
        .union(days)?
        .aggregate(
            vec![col("device_id")],
            vec![min(col("meter_serial")).alias("first"), max(col("meter_serial")).alias("last")],
        )?
        .filter(col("first").not_eq(col("last")))?
        .select_columns(&["device_id"])?
        .collect()
        .await?;
    let mut devices = Vec::new();
    for batch in &rows {
        let ids = column(batch, "device_id")?.as_string::<i32>();
        devices.extend(ids.iter().flatten().map(Arc::from));
    }
    Ok(devices)
}

fn changes_of(serials: &Serials) -> MeterChanges {
    let mut all = MeterChanges::new();
    for (device, reported) in serials {
        let pairs = reported.iter().zip(reported.iter().skip(1));
        let changes: Vec<Micros> =
            pairs.filter(|(a, b)| a.serial != b.serial).map(|(_, b)| b.ts).collect();
        if !changes.is_empty() {
            all.insert(Arc::clone(device), changes);
        }
    }
    all
}

#[cfg(test)]
mod tests;
