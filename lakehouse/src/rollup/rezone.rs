//! Recomputes the days of devices whose time zone was changed.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_tables::Table;
use acuvim_wire::time::{DAY, Micros};

use super::{
    calendar::{LONGEST_DAY, Zones, local_days},
    keys::{BucketKeys, portions},
    replace::{Progress, Removed},
    store::RollupStore,
};
use crate::error::Error;

/// The number of devices whose days are replaced by one commit.
const AT_ONCE: usize = 200;

/// Devices whose stored days were computed for another time zone than they have now, as far as there are
/// quarters to compute them from.
pub(super) async fn devices_to_rezone(
    store: &RollupStore,
    zones: &Zones,
) -> Result<Vec<Arc<str>>, Error> {
    let Some(from) = complete_from(store)? else { return Ok(Vec::new()) };
    let stored = store.stored_zones(from + DAY).await?;
    let other = stored.into_iter().filter(|s| zones.of(&s.device).name() != s.zone);
    let mut devices: Vec<Arc<str>> = other.map(|s| s.device).collect();
    devices.dedup();
    Ok(devices)
}

/// Recomputes all days of devices.
pub(super) async fn rezone(
    store: &RollupStore,
    devices: &[Arc<str>],
    zones: &Zones,
) -> Result<(), Error> {
    let Some(from) = complete_from(store)?.filter(|_| !devices.is_empty()) else { return Ok(()) };
    // Rows of a later version have columns that would be lost.
    if store.is_of_later_version()? {
        return Ok(());
    }
    let in_place = Progress::none(store.snapshot(Table::RollupDaily)?.covered());
    for some in devices.chunks(AT_ONCE) {
        let (mut keys, mut replaced_from) = (BucketKeys::new(), BTreeMap::new());
        for (device, quarters) in store.quarters_of(some).await? {
            let theirs = BucketKeys::from([(Arc::clone(&device), quarters)]);
            let mut days = local_days(&theirs, zones);
            if let Some(days) = days.get_mut(&device) {
                // A day whose first quarters are gone can't be recomputed, and stays.
                days.retain(|start| *start >= from);
                // In the former time zone the first quarter can be the last one of a day that had 25 hours.
                if let Some(first) = days.first() {
                    replaced_from.insert(Arc::clone(&device), from.max(first - LONGEST_DAY));
                }
            }
            keys.extend(days);
        }
        let mut rows = Vec::new();
        for mut keys in portions(keys) {
            rows.extend(store.compute_days(&mut keys, zones).await?);
        }
        let removed = Removed::Since(&replaced_from);
        store.replace(Table::RollupDaily, &removed, &rows, &in_place).await?;
    }
    Ok(())
}

/// The time from which on all quarters exist that there ever were; none if there are no quarters.
/// Retention keeps days longer than quarters.
fn complete_from(store: &RollupStore) -> Result<Option<Micros>, Error> {
    let oldest = |table| {
        let snapshot = store.snapshot(table)?;
        Ok::<_, Error>(snapshot.files.iter().map(|f| f.date).min())
    };
    let (quarters, days) = (oldest(Table::Rollup15m)?, oldest(Table::RollupDaily)?);
    let start = |day: i32| i64::from(day) * DAY;
    Ok(match (quarters, days) {
        // Local days can begin a day earlier than their quarters.
        (Some(quarters), Some(days)) if days + 1 < quarters => Some(start(quarters)),
        (Some(_), _) => Some(Micros::MIN + 2 * DAY),
        (None, _) => None,
    })
}
