//! What became of dead letters that were replayed.

use std::collections::HashSet;

use acuvim_control::ReplayOutcome;
use acuvim_lakehouse::Rows;
use acuvim_wire::Identity;
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};

use super::decode::Replayed;

/// The offsets of records that became rows; empty if nothing was replayed.
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

/// The outcome of each replay: `stored`, `duplicate` or `dead_letter`. A record that the lake has
/// already counts as stored, and so does one that has no row of its own, such as a registration,
/// once it decodes. `stored` are the offsets that became rows, `conflicts` those that became dead
/// letters because another reading has their time.
pub(super) fn outcomes(
    replayed: &[Replayed],
    stored: &HashSet<i64>,
    conflicts: &HashSet<i64>,
    rows_from: i64,
) -> Vec<(Identity, ReplayOutcome)> {
    let outcome = |replay: &Replayed| {
        let is_there =
            !replay.has_row || replay.offset < rows_from || stored.contains(&replay.offset);
        let decoded = replay.decoded && !conflicts.contains(&replay.offset);
        let outcome = match (decoded, is_there) {
            (false, _) => ReplayOutcome::DeadLetter,
            (true, true) => ReplayOutcome::Stored,
            (true, false) => ReplayOutcome::Duplicate,
        };
        (replay.letter, outcome)
    };
    replayed.iter().map(outcome).collect()
}

#[cfg(test)]
mod tests;
