//! Drops the duplicates of a batch. Late readings need the stored times of their device and day
//! from the lake. A reading whose time is stored with other values is no duplicate but a conflict.

mod columns;
mod conflicts;
mod count;
mod stored;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use acuvim_lakehouse::{Dedup, DedupLimits, Rows};
use acuvim_tables::Table;
use acuvim_wire::Micros;
use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
};

use super::{context::Context, decode::Message};
use crate::fatal::Fatal;
use columns::{devices_and_times, offsets};
use conflicts::{find_conflicts, with_conflicts};
use count::count;
use stored::StoredReadings;
use verdicts::Verdicts;

/// A batch without its duplicates.
pub(super) struct Deduplicated {
    pub rows: Rows,
    /// The offsets of records with a reading that became a dead letter here.
    pub conflicts: HashSet<i64>,
}

/// What dedup has to know from the lake about a batch.
#[derive(Default)]
pub(super) struct Lookup {
    stored: StoredReadings,
}

/// The dedup stage of a partition.
pub(super) struct Deduplicator {
    context: Arc<Context>,
    telemetry: Dedup,
    heartbeats: Dedup,
}

impl Deduplicator {
    pub fn new(context: Arc<Context>) -> Self {
        let lake = &context.dependencies.lake;
        let telemetry = Dedup::new(lake.newest().clone(), DedupLimits::default());
        let heartbeats = Dedup::new(lake.newest_heartbeats().clone(), DedupLimits::default());
        Self { context, telemetry, heartbeats }
    }

    /// Asks the lake for everything that [`Deduplicator::apply`] needs to know of these rows.
    pub async fn look_up(&mut self, rows: &Rows) -> Result<Lookup, Fatal> {
        if !self.context.options.guards.dedup() {
            return Ok(Lookup::default());
        }
        load_times(&self.context, &mut self.telemetry, Table::Telemetry, &rows.telemetry).await?;
        load_times(&self.context, &mut self.heartbeats, Table::Heartbeats, &rows.heartbeats)
            .await?;
        Ok(Lookup { stored: self.stored_readings(&rows.telemetry).await? })
    }

    /// Drops the duplicates and counts all rows in the ledger, from `ledger_from` on.
    ///
    /// This can't wait, and nothing may wait between it and the push to the tail: from here on
    /// these rows count as stored, so a task that is cancelled in between would drop them as
    /// duplicates of themselves.
    pub fn apply(
        &mut self,
        mut rows: Rows,
        messages: &[Message],
        ledger_from: i64,
        lookup: &Lookup,
    ) -> Result<Deduplicated, Fatal> {
        let (mut readings, mut heartbeats) = (Verdicts::default(), Verdicts::default());
        if self.context.options.guards.dedup() {
            readings.new = find_new(&mut self.telemetry, &rows.telemetry)?;
            heartbeats.new = find_new(&mut self.heartbeats, &rows.heartbeats)?;
        }
        if let Some(new) = &readings.new {
            readings.conflicts = find_conflicts(&rows.telemetry, new, &lookup.stored)?;
        }
        let ledger = &mut rows.ledger;
        count(ledger, &rows.telemetry, &readings, ledger_from, |counts| counts.stored = 1);
        count(ledger, &rows.heartbeats, &heartbeats, ledger_from, |counts| counts.heartbeats = 1);
        let mut conflicts = HashSet::new();
        if !readings.conflicts.is_empty() {
            let (telemetry, max_items) = (&rows.telemetry, self.context.options.limits.max_items);
            let found = &readings.conflicts;
            rows.dead_letters =
                with_conflicts(&rows.dead_letters, telemetry, found, messages, max_items)?;
            let offsets = offsets(telemetry);
            conflicts.extend(found.keys().filter_map(|row| offsets.get(*row)));
        }
        rows.telemetry = new_rows(&rows.telemetry, &readings)?;
        rows.heartbeats = new_rows(&rows.heartbeats, &heartbeats)?;
        metrics::counter!("acuvim_dead_letters_total")
            .increment(rows.dead_letters.num_rows() as u64);
        Ok(Deduplicated { rows, conflicts })
    }

    /// The stored readings that rows of this batch may repeat.
    async fn stored_readings(&self, rows: &RecordBatch) -> Result<StoredReadings, Fatal> {
        let readings = devices_and_times(rows)?;
        let is_stored = self.telemetry.stored(readings.iter().copied());
        let mut wanted: BTreeMap<Arc<str>, BTreeSet<Micros>> = BTreeMap::new();
        for ((device, ts), _) in readings.iter().zip(is_stored).filter(|(_, stored)| *stored) {
            wanted.entry((*device).into()).or_default().insert(*ts);
        }
        // Nearly all batches repeat nothing, and ask nobody.
        let mut stored = StoredReadings::default();
        if wanted.is_empty() {
            return Ok(stored);
        }
        // Most repetitions are of the latest reading, which is in memory.
        let latest = self.context.dependencies.lake.latest();
        let latest = latest.rows(wanted.keys().map(AsRef::as_ref));
        stored.add(latest.map_err(Fatal::failed)?)?;
        for (device, times) in &mut wanted {
            times.retain(|ts| stored.get(device, *ts).is_none());
        }
        wanted.retain(|_, times| !times.is_empty());
        if wanted.is_empty() {
            return Ok(stored);
        }
        let found = self.context.ask_lake(|lake| {
            let wanted = wanted.clone();
            async move { lake.readings_at(&wanted).await }
        });
        for rows in found.await? {
            stored.add(rows)?;
        }
        Ok(stored)
    }
}

/// Loads the stored times that these rows have to be compared with.
async fn load_times(
    context: &Context,
    dedup: &mut Dedup,
    table: Table,
    rows: &RecordBatch,
) -> Result<(), Fatal> {
    let wanted = dedup.wanted(devices_and_times(rows)?.into_iter());
    if wanted.is_empty() {
        return Ok(());
    }
    let times: HashMap<_, _> = context
        .ask_lake(|lake| {
            let wanted = wanted.clone();
            async move { lake.stored_times(table, &wanted).await }
        })
        .await?;
    times.into_iter().for_each(|(day, times)| dedup.load(day, times));
    Ok(())
}

/// Which rows are not stored yet; `None` if all of them are new.
fn find_new(dedup: &mut Dedup, rows: &RecordBatch) -> Result<Option<BooleanArray>, Fatal> {
    let new = dedup.judge(devices_and_times(rows)?.into_iter());
    Ok((!new.iter().all(|new| *new)).then(|| BooleanArray::from(new)))
}

/// The rows that are new; counts the others as duplicates or conflicts.
fn new_rows(rows: &RecordBatch, verdicts: &Verdicts) -> Result<RecordBatch, Fatal> {
    let Some(new) = &verdicts.new else { return Ok(rows.clone()) };
    let conflicts = verdicts.conflicts.len();
    let duplicates = (new.len() - new.true_count()).saturating_sub(conflicts);
    metrics::counter!("acuvim_duplicates_total").increment(duplicates as u64);
    metrics::counter!("acuvim_same_ts_total").increment(conflicts as u64);
    filter_record_batch(rows, new).map_err(Fatal::failed)
}

#[cfg(test)]
mod tests;
