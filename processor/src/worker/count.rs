//! The ledger's part that is known only once duplicates are: what was stored, and what was not new.

use std::collections::{BTreeMap, HashSet};

use acuvim_lakehouse::Rows;
use acuvim_schemas::ledger::{Counts, Ledger};
use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use crate::notes::Replayed;

/// Which rows of a batch are new; none: all of them.
pub(super) type New = Option<BooleanArray>;

/// Rows that are not new and say something else than what is stored, with the fields.
pub(super) type Others = BTreeMap<usize, Vec<String>>;

/// Counts rows and duplicates, of records from an offset on.
pub(super) fn count(
    ledger: &mut Ledger,
    rows: &RecordBatch,
    (new, others): (&New, &Others),
    from: i64,
    stored: impl Fn(&mut Counts),
) {
    let (Some(devices), Some(received), Some(offsets)) = (
        rows.column_by_name("device_id"),
        rows.column_by_name("received_at"),
        rows.column_by_name("offset"),
    ) else {
        return;
    };
    let devices = devices.as_string::<i32>();
    let received = received.as_primitive::<TimestampMicrosecondType>().values();
    let offsets = offsets.as_primitive::<Int64Type>().values();
    // Rows come in runs of one record, and of one minute: one entry for each run.
    let mut run: Option<(i64, i64, Counts)> = None;
    for (row, (received, offset)) in received.iter().zip(offsets.iter()).enumerate() {
        if *offset < from {
            continue;
        }
        let is_new = new.as_ref().is_none_or(|new| new.value(row));
        let mut counts = Counts::default();
        if is_new {
            stored(&mut counts);
        } else {
            match others.contains_key(&row) {
                true => counts.same_ts = 1,
                false => counts.duplicates = 1,
            }
            let device = devices.value(row).into();
            let counts = Counts { received: 1, ..counts };
            ledger.count(Some(&device), *received, *offset, &counts);
        }
        match &mut run {
            Some((at, last, sum)) if *last == *offset => {
                sum.add(&counts);
                *at = *received;
            }
            _ => {
                if let Some((at, offset, sum)) = run.replace((*received, *offset, counts)) {
                    ledger.count(None, at, offset, &sum);
                }
            }
        }
    }
    if let Some((at, offset, sum)) = run {
        ledger.count(None, at, offset, &sum);
    }
}

/// The offsets of records that became rows; none where nothing was brought again.
pub(super) fn stored_offsets(replayed: &[Replayed], rows: &Rows) -> HashSet<i64> {
    if replayed.is_empty() {
        return HashSet::new();
    }
    let offsets = |rows: &RecordBatch| -> Vec<i64> {
        let column = rows.column_by_name("offset");
        column.map_or_else(Vec::new, |c| c.as_primitive::<Int64Type>().values().to_vec())
    };
    offsets(&rows.telemetry).into_iter().chain(offsets(&rows.heartbeats)).collect()
}

/// What replays came to. What the lake has already is stored, under this identity or another; what
/// has no row of its own, such as a registration, is stored once it decodes.
pub(super) fn outcomes(
    replayed: &[Replayed],
    (stored, same_ts): (&HashSet<i64>, &HashSet<i64>),
    rows_from: i64,
) -> Vec<(acuvim_schemas::Identity, &'static str)> {
    let outcome = |replay: &Replayed| {
        let is_there =
            !replay.has_row || replay.offset < rows_from || stored.contains(&replay.offset);
        let decoded = replay.decoded && !same_ts.contains(&replay.offset);
        let outcome = match (decoded, is_there) {
            (false, _) => "dead_letter",
            (true, true) => "stored",
            (true, false) => "duplicate",
        };
        (replay.letter, outcome)
    };
    replayed.iter().map(outcome).collect()
}
