//! The time of a partition.

use acuvim_schemas::{Micros, time};

/// How time passes in a partition: by what ingest writes, its pulse above all. No clock of this
/// moment has a part in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// When the last record came; none before the first.
    pub last: Option<Micros>,
    /// Since when records come without a break.
    pub since: Micros,
}

/// Without a record for so long, nobody listened: ingest says at least every ten seconds that it
/// does.
const BREAK: Micros = 45 * time::SECOND;

/// A clock that goes back further than this was set.
const SET_BACK: Micros = 30 * time::SECOND;

impl Clock {
    /// A record came.
    pub(super) fn tick(&mut self, at: Micros) {
        let torn = self.last.is_none_or(|last| at - last > BREAK || last - at > SET_BACK);
        if torn {
            self.since = at;
            self.last = Some(at);
        }
        self.last = self.last.max(Some(at));
    }
}
