//! Dropping the duplicates of a batch, for which old readings need the lake's stored times. A reading
//! under whose time another is stored is one only if it says nothing that the other does not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use acuvim_lakehouse::{Dedup, Rows, Wanted};
use acuvim_schemas::{
    DeadLetter, Kind, Micros, Position, Reason,
    tables::Table,
    telemetry::{DeadLetterRows, RecordFacts, differing, item_of, items_of, named},
};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{
        SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch,
    },
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};

use super::{
    Worker,
    count::{New, Others, count},
};
use crate::{Fatal, decode::Message};

/// Readings as they are stored, by device and time.
#[derive(Default)]
struct Stored {
    pieces: Vec<RecordBatch>,
    places: HashMap<Arc<str>, HashMap<Micros, (usize, usize)>>,
}

impl Stored {
    fn add(&mut self, rows: RecordBatch) -> Result<(), Fatal> {
        for (row, (device, ts)) in pairs(&rows)?.into_iter().enumerate() {
            let place = (self.pieces.len(), row);
            self.places.entry(device.into()).or_default().insert(ts, place);
        }
        self.pieces.push(rows);
        Ok(())
    }

    fn get(&self, device: &str, ts: Micros) -> Option<(&RecordBatch, usize)> {
        let (piece, row) = self.places.get(device)?.get(&ts)?;
        Some((self.pieces.get(*piece)?, *row))
    }
}

impl Worker {
    /// The rows that are not stored yet, with all of them counted; of those under whose time another
    /// says something else, dead letters. Everything that has to be asked of the lake is asked first:
    /// from the first verdict on nothing waits, so that a worker that is given up has either judged
    /// and kept its rows, or neither. Answers also with the offsets of those dead letters.
    pub(super) async fn without_duplicates(
        &mut self,
        mut rows: Rows,
        messages: &[Message],
        ledger_from: i64,
    ) -> Result<(Rows, HashSet<i64>), Fatal> {
        let mut stored = Stored::default();
        if self.options.dedup {
            self.load_times(Table::Telemetry, &rows.telemetry).await?;
            self.load_times(Table::Heartbeats, &rows.heartbeats).await?;
            stored = self.stored_before(&rows.telemetry).await?;
        }
        let (readings, heartbeats) = match self.options.dedup {
            true => (
                are_new(&mut self.dedup, &rows.telemetry)?,
                are_new(&mut self.heartbeat_dedup, &rows.heartbeats)?,
            ),
            false => (None, None),
        };
        let others = match &readings {
            Some(new) => say_more(&rows.telemetry, new, &stored)?,
            None => Others::new(),
        };
        let (ledger, none) = (&mut rows.ledger, Others::new());
        count(ledger, &rows.telemetry, (&readings, &others), ledger_from, |counts| {
            counts.stored = 1;
        });
        count(ledger, &rows.heartbeats, (&heartbeats, &none), ledger_from, |counts| {
            counts.heartbeats = 1;
        });
        let mut lost = HashSet::new();
        if !others.is_empty() {
            let most = self.options.limits.max_items;
            let letters = letters(&rows.telemetry, &others, messages, most)?;
            rows.dead_letters = in_order(&[rows.dead_letters, letters])?;
            let offsets = offsets(&rows.telemetry);
            lost.extend(others.keys().filter_map(|row| offsets.get(*row)));
        }
        rows.telemetry = kept(&rows.telemetry, readings, others.len())?;
        rows.heartbeats = kept(&rows.heartbeats, heartbeats, 0)?;
        Ok((rows, lost))
    }

    /// The readings that are stored under the times of these, before any of them is judged.
    async fn stored_before(&self, rows: &RecordBatch) -> Result<Stored, Fatal> {
        let readings = pairs(rows)?;
        let known = self.dedup.stored(readings.iter().copied());
        let mut wanted: BTreeMap<Arc<str>, BTreeSet<Micros>> = BTreeMap::new();
        for ((device, ts), _) in readings.iter().zip(known).filter(|(_, known)| *known) {
            wanted.entry((*device).into()).or_default().insert(*ts);
        }
        let mut stored = Stored::default();
        if wanted.is_empty() {
            return Ok(stored);
        }
        // What is sent again is mostly the latest, which is in memory.
        let latest = self.parts.lake.latest().rows(wanted.keys().map(AsRef::as_ref));
        stored.add(latest.map_err(|e| Fatal::Broken(e.to_string()))?)?;
        for (device, times) in &mut wanted {
            times.retain(|ts| stored.get(device, *ts).is_none());
        }
        wanted.retain(|_, times| !times.is_empty());
        if wanted.is_empty() {
            return Ok(stored);
        }
        let found = self.lake_answers(|lake| {
            let wanted = wanted.clone();
            async move { lake.readings_at(&wanted).await }
        });
        for piece in found.await? {
            stored.add(piece)?;
        }
        Ok(stored)
    }

    /// Loads the stored times that these rows are to be judged by.
    async fn load_times(&mut self, table: Table, rows: &RecordBatch) -> Result<(), Fatal> {
        let dedup = match table {
            Table::Telemetry => &self.dedup,
            _ => &self.heartbeat_dedup,
        };
        let wanted = dedup.wanted(pairs(rows)?.into_iter());
        if wanted.is_empty() {
            return Ok(());
        }
        let times = self.stored_times(table, &wanted).await?;
        let dedup = match table {
            Table::Telemetry => &mut self.dedup,
            _ => &mut self.heartbeat_dedup,
        };
        times.into_iter().for_each(|(day, times)| dedup.load(day, times));
        Ok(())
    }

    async fn stored_times(
        &self,
        table: Table,
        wanted: &HashSet<Wanted>,
    ) -> Result<HashMap<Wanted, Vec<Micros>>, Fatal> {
        self.lake_answers(|lake| {
            let wanted = wanted.clone();
            async move { lake.stored_times(table, &wanted).await }
        })
        .await
    }
}

/// Which rows are not stored yet; none: all of them.
fn are_new(dedup: &mut Dedup, rows: &RecordBatch) -> Result<New, Fatal> {
    let new = dedup.judge(pairs(rows)?.into_iter());
    Ok((!new.iter().all(|new| *new)).then(|| BooleanArray::from(new)))
}

/// Of rows that are not new, those that say something else than the reading that is stored, or than
/// the new one before them, with the fields.
fn say_more(rows: &RecordBatch, new: &BooleanArray, stored: &Stored) -> Result<Others, Fatal> {
    let mut here: HashMap<(&str, Micros), usize> = HashMap::new();
    let mut others = Others::new();
    for (row, reading) in pairs(rows)?.into_iter().enumerate() {
        if new.value(row) {
            here.insert(reading, row);
            continue;
        }
        let before = here.get(&reading).map(|first| (rows, *first));
        // One that was dropped since it was stored has nothing to differ from.
        let Some(before) = before.or_else(|| stored.get(reading.0, reading.1)) else { continue };
        let fields = differing((rows, row), before);
        if !fields.is_empty() {
            others.insert(row, fields);
        }
    }
    Ok(others)
}

/// Dead letters of rows that say something else than what is stored.
fn letters(
    rows: &RecordBatch,
    others: &Others,
    messages: &[Message],
    most: usize,
) -> Result<RecordBatch, Fatal> {
    let int =
        |name: &str| rows.column_by_name(name).map(|c| c.as_primitive::<Int32Type>().values());
    let received = rows.column_by_name("received_at");
    let received = received.map(|c| c.as_primitive::<TimestampMicrosecondType>().values());
    let (Some(epochs), Some(partitions), Some(items), Some(received)) =
        (int("epoch"), int("partition"), int("item"), received)
    else {
        return Err(Fatal::Broken("decoded rows have no identity".to_owned()));
    };
    let (readings, offsets) = (pairs(rows)?, offsets(rows));
    let mut letters = DeadLetterRows::default();
    // Rows of one message come one behind the other: it is taken apart once.
    let mut apart: Option<(i64, Vec<&[u8]>)> = None;
    for (row, fields) in others {
        let offset = offsets.get(*row).copied().unwrap_or(0);
        let at = messages.binary_search_by_key(&offset, |message| message.offset);
        let Some(message) = at.ok().and_then(|at| messages.get(at)) else {
            return Err(Fatal::Broken(format!("the reading at offset {offset} has no message")));
        };
        let item = items.get(*row).copied().unwrap_or(0);
        let partition = partitions.get(*row).and_then(|p| u32::try_from(*p).ok()).unwrap_or(0);
        let facts = RecordFacts {
            device_id: readings.get(*row).map_or("", |(device, _)| device),
            kind: Kind::Telemetry.as_str(),
            topic: std::str::from_utf8(&message.topic).unwrap_or_default(),
            received_at: received.get(*row).copied().unwrap_or(0),
            epoch: epochs.get(*row).copied().unwrap_or(0),
            position: Position { partition, offset },
        };
        let parts = match apart.take().filter(|(of, _)| *of == offset) {
            Some((_, parts)) => parts,
            None => items_of(&message.payload, most),
        };
        let bytes = item_of(&message.payload, &parts, item);
        apart = Some((offset, parts));
        let detail = Some(named(fields));
        letters.push(&facts, &DeadLetter::whole(Reason::SameTs, detail, item, bytes));
    }
    letters.finish().map_err(|e| Fatal::Broken(e.to_string()))
}

/// Rows in the order of their offsets and items, in which the tail cuts them.
fn in_order(rows: &[RecordBatch]) -> Result<RecordBatch, Fatal> {
    let order = || {
        let all = concat_batches(&Table::DeadLetters.schema(), rows)?;
        let by = ["offset", "item"].into_iter().filter_map(|name| all.column_by_name(name));
        let by: Vec<SortColumn> =
            by.map(|values| SortColumn { values: Arc::clone(values), options: None }).collect();
        take_record_batch(&all, &lexsort_to_indices(&by, None)?)
    };
    order().map_err(|e| Fatal::Broken(e.to_string()))
}

/// The rows that are new. `others` of those that are not are no duplicates.
fn kept(rows: &RecordBatch, new: New, others: usize) -> Result<RecordBatch, Fatal> {
    let Some(new) = new else { return Ok(rows.clone()) };
    let duplicates = (new.len() - new.true_count()).saturating_sub(others);
    metrics::counter!("acuvim_duplicates_total").increment(duplicates as u64);
    metrics::counter!("acuvim_same_ts_total").increment(others as u64);
    filter_record_batch(rows, &new).map_err(|e| Fatal::Broken(e.to_string()))
}

fn offsets(rows: &RecordBatch) -> &[i64] {
    let column = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>());
    column.map_or(&[], |column| column.values())
}

fn pairs(rows: &RecordBatch) -> Result<Vec<(&str, Micros)>, Fatal> {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return Err(Fatal::Broken("decoded rows have no device_id or ts".to_owned()));
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    Ok(devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()).collect())
}
