//! Running one rule over past readings: evaluated in windows of time, then put through the same state machine
//! as in the stream, device by device.

use std::{collections::HashMap, sync::Arc};

use acuvim_model::event::Mark;
use acuvim_wire::{Identity, Micros};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::error::{DataFusionError, Result};
use uuid::Uuid;

use crate::{
    cadence::Recent,
    episode::{ReadingState, State, Step},
    inputs::{Inputs, Site},
    plan::Compiled,
};

/// An episode that a backtest found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundEpisode {
    /// The time of its first reading.
    pub started: Micros,
    /// The time of the reading that raised it.
    pub raised: Micros,
    /// When its condition ended, or `None` if it is open.
    pub ended: Option<Micros>,
}

/// A backtest of one rule. Windows of time are given in order; within a window, rows may come in any order.
#[derive(Debug)]
pub struct Replay {
    compiled: Compiled,
    devices: HashMap<Arc<str>, usize>,
    states: Vec<Device>,
    window: Vec<WindowReading>,
    readings: u64,
    episodes: usize,
    /// Readings further ahead of their arrival than this are ignored, because their clock was wrong.
    max_ahead: Micros,
}

/// A reading of the current window. Ordered by device and time, with the fields in that order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WindowReading {
    device: u32,
    ts: Micros,
    state: ReadingState,
}

#[derive(Debug)]
struct Device {
    id: Arc<str>,
    site: Option<Arc<Site>>,
    state: State,
    recent: Recent,
    found: Vec<FoundEpisode>,
}

impl Replay {
    /// Starts with all devices quiet. Readings further ahead of their arrival than `max_ahead` are ignored.
    #[must_use]
    pub fn new(compiled: Compiled, max_ahead: Micros) -> Self {
        let (devices, states) = (HashMap::new(), Vec::new());
        Self { compiled, devices, states, window: Vec::new(), readings: 0, episodes: 0, max_ahead }
    }

    /// Adds rows to the current window: `device_id`, `ts`, `received_at`, and the columns that the rule
    /// needs. `site` returns `None` for devices that the rule is not for.
    ///
    /// # Errors
    /// If the rule can't be evaluated over the rows.
    pub fn rows(
        &mut self,
        batch: &RecordBatch,
        site: &dyn Fn(&str) -> Option<Arc<Site>>,
    ) -> Result<()> {
        let columns = ["device_id", "ts", "received_at"].map(|name| batch.column_by_name(name));
        let [Some(ids), Some(times), Some(received)] = columns else {
            let missing = "rows without device_id, ts or received_at";
            return Err(DataFusionError::Internal(missing.to_owned()));
        };
        let ids = ids.as_string::<i32>();
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let received = received.as_primitive::<TimestampMicrosecondType>().values();
        let mut indexes = Vec::with_capacity(batch.num_rows());
        // Rows of one device mostly follow each other, which saves a look-up for each of them.
        let mut last: Option<(&str, usize)> = None;
        for id in ids.iter().flatten() {
            let index = match last {
                Some((before, index)) if before == id => index,
                _ => self.index_of(id, site),
            };
            last = Some((id, index));
            indexes.push(index);
        }
        let no_site = Site::default();
        let site_of = |row: usize| {
            let device = indexes.get(row).and_then(|index| self.states.get(*index));
            device.and_then(|device| device.site.as_deref()).unwrap_or(&no_site)
        };
        let inputs = Inputs::new(batch, site_of, &self.compiled.needed)?;
        let when = self.compiled.breaches(&inputs)?;
        let clears = self.compiled.clears(&inputs)?;
        let rows = indexes.iter().zip(times.iter().zip(received.iter())).enumerate();
        for (row, (index, (ts, received))) in rows {
            if *ts > received.saturating_add(self.max_ahead) {
                continue;
            }
            if self.states.get(*index).is_none_or(|device| device.site.is_none()) {
                continue;
            }
            self.readings += 1;
            let state = Compiled::state_of(&when, clears.as_ref(), row);
            let device = u32::try_from(*index).unwrap_or(u32::MAX);
            self.window.push(WindowReading { device, ts: *ts, state });
        }
        Ok(())
    }

    fn index_of(&mut self, id: &str, site: &dyn Fn(&str) -> Option<Arc<Site>>) -> usize {
        if let Some(index) = self.devices.get(id) {
            return *index;
        }
        let index = self.states.len();
        let id: Arc<str> = id.into();
        let site = site(&id).filter(|site| self.compiled.can_judge(site));
        self.states.push(Device {
            id: Arc::clone(&id),
            site,
            state: State::Quiet,
            recent: Recent::default(),
            found: Vec::new(),
        });
        self.devices.insert(id, index);
        index
    }

    /// Ends the current window. All readings after this call are later than those before it.
    pub fn end_window(&mut self) {
        // Fast, because files are sorted by device and time, so most of it is in order already.
        self.window.sort();
        let terms = self.compiled.terms;
        for WindowReading { device, ts, state } in std::mem::take(&mut self.window) {
            let device = usize::try_from(device).ok().and_then(|index| self.states.get_mut(index));
            let Some(device) = device else { continue };
            // A backtest shows times only, so that the identity of a reading is not needed.
            let at = Identity { epoch: 0, partition: 0, offset: 0, item: 0 };
            let mark = Mark { ts, at };
            let torn = device.recent.is_torn(ts, terms.gap);
            match device.state.step(mark, torn, state, terms, |_| Uuid::nil()) {
                Some(Step::Raised(open)) => {
                    let (started, raised) = (open.started.ts, open.raised.ts);
                    device.found.push(FoundEpisode { started, raised, ended: None });
                    self.episodes += 1;
                }
                Some(Step::Cleared { end, .. }) => {
                    if let Some(last) = device.found.last_mut() {
                        last.ended = Some(end.ts);
                    }
                }
                None => {}
            }
            device.recent.push(ts);
        }
    }

    /// The number of episodes found so far.
    #[must_use]
    pub const fn episodes(&self) -> usize {
        self.episodes
    }

    /// The number of readings evaluated so far.
    #[must_use]
    pub const fn readings(&self) -> u64 {
        self.readings
    }

    /// The devices that were evaluated, each with its episodes.
    pub fn found(&self) -> impl Iterator<Item = (&Arc<str>, &[FoundEpisode])> {
        let evaluated = self.states.iter().filter(|device| device.site.is_some());
        evaluated.map(|device| (&device.id, device.found.as_slice()))
    }
}

#[cfg(test)]
mod tests;
