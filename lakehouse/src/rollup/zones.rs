//! Days follow the calendar of their site: when that changes, they are made anew.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_schemas::{
    tables::Table,
    time::{DAY, Micros},
};

use super::{
    Zones, daily,
    keys::{Keys, chunks},
    replace::{Gone, Moves},
};
use crate::{Error, Lake};

/// Devices whose days are made anew with one commit.
const AT_ONCE: usize = 200;

impl Lake {
    /// Devices whose days were made by another calendar than theirs is now, as far as there are
    /// quarters of an hour to make them of.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn zoned_otherwise(&self, zones: &Zones) -> Result<Vec<Arc<str>>, Error> {
        let Some(from) = self.whole_from()? else { return Ok(Vec::new()) };
        let stored = self.stored_zones(from + DAY).await?;
        let other = |(device, zone): &(Arc<str>, String)| zones.of(device).name() != zone;
        let mut devices: Vec<Arc<str>> =
            stored.into_iter().filter(other).map(|(device, _)| device).collect();
        devices.dedup();
        Ok(devices)
    }

    /// Makes all days of devices anew.
    ///
    /// # Errors
    /// As [`Lake::roll_up`].
    pub async fn rezone(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        let Some(from) = self.whole_from()?.filter(|_| !devices.is_empty()) else { return Ok(()) };
        if self.is_of_later_version()? {
            return Ok(());
        }
        let expected = self.snapshot(Table::RollupDaily)?.covered().clone();
        let stay = Moves { expected, ..Moves::default() };
        for some in devices.chunks(AT_ONCE) {
            let (mut keys, mut gone) = (Keys::new(), BTreeMap::new());
            for (device, quarters) in self.quarters_of(some).await? {
                let theirs = Keys::from([(Arc::clone(&device), quarters)]);
                let mut days = daily::local_days(&theirs, zones);
                if let Some(days) = days.get_mut(&device) {
                    // A day that is only there in part stays as it is.
                    days.retain(|start| *start >= from);
                    // The day of the calendar before began up to a day earlier.
                    if let Some(first) = days.first() {
                        gone.insert(Arc::clone(&device), from.max(first - DAY));
                    }
                }
                keys.extend(days);
            }
            let mut rows = Vec::new();
            for mut keys in chunks(keys) {
                rows.extend(self.make_days(&mut keys, zones).await?);
            }
            self.replace(Table::RollupDaily, &Gone::Since(&gone), &rows, &stay).await?;
        }
        Ok(())
    }

    /// From when on all quarters are there that there have been; none if there are none.
    fn whole_from(&self) -> Result<Option<Micros>, Error> {
        let oldest =
            |table| Ok::<_, Error>(self.snapshot(table)?.files.iter().map(|f| f.date).min());
        let (quarters, days) = (oldest(Table::Rollup15m)?, oldest(Table::RollupDaily)?);
        let start = |day: i32| i64::from(day) * DAY;
        Ok(match (quarters, days) {
            // A calendar may be a day ahead.
            (Some(quarters), Some(days)) if days + 1 < quarters => Some(start(quarters)),
            (Some(_), _) => Some(Micros::MIN + 2 * DAY),
            (None, _) => None,
        })
    }
}
