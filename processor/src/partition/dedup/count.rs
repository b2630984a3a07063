//! The part of the ledger that is known only after dedup: which rows were stored, and what became
//! of the others.

use acuvim_tables::ledger::{Counts, Ledger};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use super::verdicts::Verdicts;

/// Counts rows and duplicates, of records from an offset on; `count_stored` counts one row that is
/// new.
pub(super) fn count(
    ledger: &mut Ledger,
    rows: &RecordBatch,
    verdicts: &Verdicts,
    from: i64,
    count_stored: impl Fn(&mut Counts),
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
    // The rows of a record follow each other and were received together: the ledger is called once
    // for all of them.
    let mut run: Option<Run> = None;
    for (row, (received, offset)) in received.iter().zip(offsets.iter()).enumerate() {
        if *offset < from {
            continue;
        }
        let mut counts = Counts::default();
        if verdicts.is_new(row) {
            count_stored(&mut counts);
        } else {
            match verdicts.conflicts.contains_key(&row) {
                true => counts.same_ts = 1,
                false => counts.duplicates = 1,
            }
            let device = devices.value(row).into();
            let counts = Counts { received: 1, ..counts };
            ledger.count(Some(&device), *received, *offset, &counts);
        }
        match &mut run {
            Some(run) if run.offset == *offset => {
                run.counts.add(&counts);
                run.received = *received;
            }
            _ => {
                let next = Run { received: *received, offset: *offset, counts };
                if let Some(run) = run.replace(next) {
                    run.count(ledger);
                }
            }
        }
    }
    if let Some(run) = run {
        run.count(ledger);
    }
}

/// The rows of one record.
struct Run {
    received: i64,
    offset: i64,
    counts: Counts,
}

impl Run {
    fn count(&self, ledger: &mut Ledger) {
        ledger.count(None, self.received, self.offset, &self.counts);
    }
}
