//! Retention: removes whole days that are older than a table keeps.

use std::collections::HashSet;

use acuvim_tables::Table;
use acuvim_wire::time::{Micros, day_text};
use deltalake::{kernel::Transaction, protocol::DeltaOperation};

use crate::{
    delta::{Covered, commit::Replacement, snapshot::File, tables::Tables},
    error::Error,
};

/// What retention removed. The space is free once cleaning has deleted the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// The number of days.
    pub days: usize,
    /// The number of their files.
    pub files: usize,
    /// The number of their rows.
    pub rows: usize,
    /// The size of their files in bytes.
    pub bytes: u64,
}

/// Removes the days of a table before one, given in days since 1970-01-01. The commit records the time
/// `now`.
pub(crate) async fn retain(
    tables: &Tables,
    kind: Table,
    before: i32,
    now: Micros,
) -> Result<Retained, Error> {
    let table = tables.get(kind)?;
    let _removing = table.removing.lock().await;
    // Before the files are chosen: a flush in between would add files to a day that is being
    // removed, and they would stay.
    let committing = table.committing.lock().await;
    let base = table.current();
    let gone: Vec<_> = base.files.iter().filter(|f| is_expired(f, before)).collect();
    if gone.is_empty() {
        return Ok(Retained::default());
    }
    let days: HashSet<i32> = gone.iter().map(|f| f.date).collect();
    let retained = Retained {
        days: days.len(),
        files: gone.len(),
        rows: gone.iter().filter_map(|f| f.rows).sum(),
        bytes: gone.iter().map(|f| f.meta.size).sum(),
    };
    let predicate = Some(format!("date < '{}'", day_text(before)));
    let replacement = Replacement {
        removes: base.removes(gone, true),
        adds: Vec::new(),
        covered: Covered::new(),
        // In the same commit, so that rows never disappear without the time at which they did.
        transactions: vec![Transaction::new(retention_id(kind), now)],
        operation: DeltaOperation::Delete { predicate },
    };
    table.replace(&committing, &base, replacement).await?;
    Ok(retained)
}

/// When days of a table were last removed. The check of the ledger does not expect rows from before.
pub(crate) async fn retained_at(tables: &Tables, table: Table) -> Result<Option<Micros>, Error> {
    tables.get(table)?.transaction(&retention_id(table)).await
}

fn retention_id(table: Table) -> String {
    format!("retention:{}", table.name())
}

/// A file whose day could not be parsed counts as 1970-01-01. It is kept, since its age is unknown.
fn is_expired(file: &File, before: i32) -> bool {
    file.date > 0 && file.date < before
}

#[cfg(test)]
mod tests;
