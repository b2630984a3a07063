//! A rule over the past: verdicts of many readings, in windows of time, then the state machine that
//! the stream runs, device by device.

use std::{collections::HashMap, sync::Arc};

use acuvim_schemas::{Identity, Micros, event::Mark};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::error::{DataFusionError, Result};
use uuid::Uuid;

use crate::{
    cadence::Recent,
    episode::{State, Step, Verdict},
    inputs::{Inputs, Site},
    plan::Compiled,
};

/// An episode that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its first reading.
    pub started: Micros,
    /// The reading that raised it.
    pub raised: Micros,
    /// Its true end; none if it is open.
    pub ended: Option<Micros>,
}

/// One rule on its way through the past. Windows of time come in order; within one, rows may come in
/// any order.
#[derive(Debug)]
pub struct Replay {
    compiled: Compiled,
    devices: HashMap<Arc<str>, usize>,
    states: Vec<Device>,
    /// Readings of this window: device, time, verdict.
    window: Vec<(u32, Micros, u8)>,
    readings: u64,
    episodes: usize,
    /// How far ahead of its arrival a reading may be and still be of the present.
    max_ahead: Micros,
}

#[derive(Debug)]
struct Device {
    id: Arc<str>,
    site: Option<Arc<Site>>,
    state: State,
    recent: Recent,
    found: Vec<Found>,
}

impl Replay {
    /// Begins with all devices quiet. Readings further ahead of their arrival than this are not judged.
    #[must_use]
    pub fn new(compiled: Compiled, max_ahead: Micros) -> Self {
        let (devices, states) = (HashMap::new(), Vec::new());
        Self { compiled, devices, states, window: Vec::new(), readings: 0, episodes: 0, max_ahead }
    }

    /// Takes rows of a window: `device_id`, `ts`, `received_at`, and the columns that the rule needs.
    /// `site` knows the devices that the rule is for.
    ///
    /// # Errors
    /// When the rule can't be evaluated over them.
    pub fn rows(
        &mut self,
        batch: &RecordBatch,
        site: &dyn Fn(&str) -> Option<Arc<Site>>,
    ) -> Result<()> {
        let columns = ["device_id", "ts", "received_at"].map(|name| batch.column_by_name(name));
        let [Some(ids), Some(times), Some(received)] = columns else {
            let lacks = "rows without device_id, ts or received_at";
            return Err(DataFusionError::Internal(lacks.to_owned()));
        };
        let ids = ids.as_string::<i32>();
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let received = received.as_primitive::<TimestampMicrosecondType>().values();
        let mut places = Vec::with_capacity(batch.num_rows());
        let mut last: Option<(&str, usize)> = None;
        for id in ids.iter().flatten() {
            let place = match last {
                Some((before, place)) if before == id => place,
                _ => self.place(id, site),
            };
            last = Some((id, place));
            places.push(place);
        }
        let nobody = Site::default();
        let site_of = |row: usize| {
            let device = places.get(row).and_then(|place| self.states.get(*place));
            device.and_then(|device| device.site.as_deref()).unwrap_or(&nobody)
        };
        let inputs = Inputs::new(batch, site_of, &self.compiled.needed)?;
        let when = self.compiled.breaches(&inputs)?;
        let clears = self.compiled.clears(&inputs)?;
        let rows = places.iter().zip(times.iter().zip(received.iter())).enumerate();
        for (row, (place, (ts, received))) in rows {
            if *ts > received.saturating_add(self.max_ahead) {
                continue;
            }
            if self.states.get(*place).is_none_or(|device| device.site.is_none()) {
                continue;
            }
            self.readings += 1;
            let verdict = match Compiled::verdict(&when, clears.as_ref(), row) {
                Verdict::Breach => 0,
                Verdict::Clear => 1,
                Verdict::Between => 2,
                Verdict::Unknown => 3,
            };
            self.window.push((u32::try_from(*place).unwrap_or(u32::MAX), *ts, verdict));
        }
        Ok(())
    }

    fn place(&mut self, id: &str, site: &dyn Fn(&str) -> Option<Arc<Site>>) -> usize {
        if let Some(place) = self.devices.get(id) {
            return *place;
        }
        let place = self.states.len();
        let id: Arc<str> = id.into();
        let site = site(&id).filter(|site| self.compiled.can_judge(site));
        self.states.push(Device {
            id: Arc::clone(&id),
            site,
            state: State::Quiet,
            recent: Recent::default(),
            found: Vec::new(),
        });
        self.devices.insert(id, place);
        place
    }

    /// Ends a window: everything that comes later is of a later time.
    pub fn end_window(&mut self) {
        // Files are sorted by device and time: this is mostly in order.
        self.window.sort();
        let terms = self.compiled.terms;
        for (place, ts, verdict) in std::mem::take(&mut self.window) {
            let device = usize::try_from(place).ok().and_then(|p| self.states.get_mut(p));
            let Some(device) = device else { continue };
            let verdict = match verdict {
                0 => Verdict::Breach,
                1 => Verdict::Clear,
                2 => Verdict::Between,
                _ => Verdict::Unknown,
            };
            let at = Identity { epoch: 0, partition: 0, offset: 0, item: 0 };
            let mark = Mark { ts, at };
            let torn = device.recent.is_torn(ts, terms.gap);
            match device.state.step(mark, torn, verdict, terms, |_| Uuid::nil()) {
                Some(Step::Raised(open)) => {
                    let (started, raised) = (open.started.ts, open.raised.ts);
                    device.found.push(Found { started, raised, ended: None });
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

    /// Episodes found so far, over all devices.
    #[must_use]
    pub const fn episodes(&self) -> usize {
        self.episodes
    }

    /// Readings judged so far.
    #[must_use]
    pub const fn readings(&self) -> u64 {
        self.readings
    }

    /// The devices that were judged, each with its episodes.
    pub fn found(&self) -> impl Iterator<Item = (&Arc<str>, &[Found])> {
        let judged = self.states.iter().filter(|device| device.site.is_some());
        judged.map(|device| (&device.id, device.found.as_slice()))
    }
}
