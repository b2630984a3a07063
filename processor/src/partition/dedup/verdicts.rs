//! What dedup found about the rows of a batch.

use std::collections::BTreeMap;

use arrow::array::BooleanArray;

/// Rows that are not new and differ from what is stored, with the fields that differ.
pub(super) type Conflicts = BTreeMap<usize, Vec<String>>;

/// What dedup found about the rows of one table.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Which rows are new; `None` if all of them are.
    pub new: Option<BooleanArray>,
    pub conflicts: Conflicts,
}

impl Verdicts {
    pub fn is_new(&self, row: usize) -> bool {
        self.new.as_ref().is_none_or(|new| new.value(row))
    }
}
