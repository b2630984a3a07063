//! The time of a partition.

use acuvim_wire::{Micros, time};

/// The time of a partition by the arrival of its records, above all of the pulse that ingest
/// writes. The clock of this process has no part in it, so that a second run over the log has the
/// same results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// When the newest record arrived; `None` before the first.
    pub last: Option<Micros>,
    /// Since when records arrive without a break.
    pub since: Micros,
}

/// A gap between records after which ingest was not listening: it writes a pulse every ten seconds
/// at least. Silence of devices during a break says nothing about them.
const BREAK: Micros = 45 * time::SECOND;

/// A clock that goes back further than this was set; clocks of several ingests differ by less.
const SET_BACK: Micros = 30 * time::SECOND;

impl Clock {
    /// Moves the clock to the arrival of a record.
    pub(super) fn tick(&mut self, at: Micros) {
        let torn = self.last.is_none_or(|last| at - last > BREAK || last - at > SET_BACK);
        if torn {
            self.since = at;
            self.last = Some(at);
        }
        // Never back by a little: what was silent at a time stays so.
        self.last = self.last.max(Some(at));
    }
}
