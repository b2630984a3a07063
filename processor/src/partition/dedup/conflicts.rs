//! Readings whose time is stored already, with other values. They become dead letters, so that no
//! measurement is lost unnoticed.

use std::{collections::HashMap, sync::Arc};

use acuvim_tables::{
    Table,
    dead_letters::DeadLetterRows,
    telemetry::{differing, named},
};
use acuvim_wire::{
    DeadLetter, Kind, Micros, Position, Reason,
    record::RecordFacts,
    telemetry::{item_of, items_of},
};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{Int32Type, TimestampMicrosecondType},
};

use super::{
    columns::{devices_and_times, offsets},
    stored::StoredReadings,
    verdicts::Conflicts,
};
use crate::{fatal::Fatal, partition::decode::Message};

/// Of the rows that are not new, those that differ from the stored reading, or from the new reading
/// before them in the same batch, with the fields that differ.
pub(super) fn find_conflicts(
    rows: &RecordBatch,
    new: &BooleanArray,
    stored: &StoredReadings,
) -> Result<Conflicts, Fatal> {
    let mut in_batch: HashMap<(&str, Micros), usize> = HashMap::new();
    let mut conflicts = Conflicts::new();
    for (row, reading) in devices_and_times(rows)?.into_iter().enumerate() {
        if new.value(row) {
            in_batch.insert(reading, row);
            continue;
        }
        // The batch comes first: a reading that it has as new is not stored yet.
        let before = in_batch.get(&reading).map(|first| (rows, *first));
        // A stored reading that retention has dropped meanwhile can't be compared with.
        let Some(before) = before.or_else(|| stored.get(reading.0, reading.1)) else { continue };
        let fields = differing((rows, row), before);
        if !fields.is_empty() {
            conflicts.insert(row, fields);
        }
    }
    Ok(conflicts)
}

/// Adds the conflicting rows to the dead letters. `max_items` is the most items that one message
/// may have.
pub(super) fn with_conflicts(
    dead_letters: &RecordBatch,
    rows: &RecordBatch,
    conflicts: &Conflicts,
    messages: &[Message],
    max_items: usize,
) -> Result<RecordBatch, Fatal> {
    let conflicting = dead_letters_of(rows, conflicts, messages, max_items)?;
    sorted(&[dead_letters.clone(), conflicting])
}

fn dead_letters_of(
    rows: &RecordBatch,
    conflicts: &Conflicts,
    messages: &[Message],
    max_items: usize,
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
    let (readings, offsets) = (devices_and_times(rows)?, offsets(rows));
    let mut letters = DeadLetterRows::default();
    // The items of the message at hand: conflicting rows of one message follow each other, so it is
    // split only once.
    let mut split: Option<(i64, Vec<&[u8]>)> = None;
    for (row, fields) in conflicts {
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
        let parts = match split.take().filter(|(of, _)| *of == offset) {
            Some((_, parts)) => parts,
            None => items_of(&message.payload, max_items),
        };
        let bytes = item_of(&message.payload, &parts, item);
        split = Some((offset, parts));
        letters.push(&facts, &DeadLetter::whole(Reason::SameTs, Some(named(fields)), item, bytes));
    }
    letters.finish().map_err(Fatal::failed)
}

/// Dead letters in the order of their offsets and items: the tail is cut by offset, which needs
/// them in order.
fn sorted(rows: &[RecordBatch]) -> Result<RecordBatch, Fatal> {
    let sort = || {
        let all = concat_batches(&Table::DeadLetters.schema(), rows)?;
        let by = ["offset", "item"].into_iter().filter_map(|name| all.column_by_name(name));
        let by: Vec<SortColumn> =
            by.map(|values| SortColumn { values: Arc::clone(values), options: None }).collect();
        take_record_batch(&all, &lexsort_to_indices(&by, None)?)
    };
    sort().map_err(|error: arrow::error::ArrowError| Fatal::failed(error))
}
