//! Evaluating all rules over a run of readings: which episodes begin and end, and which readings came late.

mod batch;
mod device;
mod result;
mod run;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_wire::Micros;
use arrow::{
    array::{Array as _, RecordBatch},
    error::ArrowError,
};
use uuid::Uuid;

pub use self::result::{BACKFILLED_AFTER, Evaluation, Stepped};
use self::{
    batch::{BatchDevice, Sample},
    device::{Device, StoredState},
    run::RuleRun,
};
use crate::{
    cadence::{GAP, Recent},
    episode::State,
    inputs::{Inputs, Site},
    rows::Rows,
    set::RuleSet,
};

/// Evaluates rules, and keeps their states on all devices.
#[derive(Debug, Default)]
pub struct Evaluator {
    devices: HashMap<Arc<str>, Device>,
    /// Which rules apply to the last device. Shared with the next one, which mostly has the same.
    applying: Option<Arc<[bool]>>,
}

impl Evaluator {
    /// Restores the stored states of a device.
    pub fn load(&mut self, device_id: &str, states: Vec<(Uuid, State)>) {
        let states = states.into_iter().map(|(rule, state)| (rule, state.into())).collect();
        self.devices.entry(device_id.into()).or_default().states = states;
    }

    /// Restores the last readings of a device.
    pub fn recall(&mut self, device_id: &str, recent: Recent) {
        self.devices.entry(device_id.into()).or_default().recent = recent;
    }

    /// The last readings of a device, as far as they were evaluated here.
    #[must_use]
    pub fn recent(&self, device_id: &str) -> Recent {
        self.devices.get(device_id).map_or_else(Recent::default, |device| device.recent)
    }

    /// The devices whose last readings must be restored before the batch is evaluated, each with its newest
    /// reading: a rule waits for them across a gap, and only the earlier readings tell whether it is torn.
    ///
    /// # Errors
    /// Only if the rows are not from `telemetry`.
    pub fn wants(
        &self,
        set: &RuleSet,
        batch: &RecordBatch,
        newest: &dyn Fn(&str) -> Option<Micros>,
    ) -> Result<Vec<(Arc<str>, Micros)>, ArrowError> {
        let rows = Rows::of(batch)?;
        let of_now = |row: &usize| set.is_of_now(&rows, *row);
        let mut held: HashMap<&str, (Option<Micros>, bool)> = HashMap::new();
        let mut wanted: HashMap<&str, Micros> = HashMap::new();
        for (row, ts) in rows.ts.iter().copied().enumerate().filter(|(row, _)| of_now(row)) {
            let name = rows.devices.value(row);
            let (before, waits) =
                held.entry(name).or_insert_with(|| (newest(name), self.waits(name)));
            // A shorter gap is none for any device, so that its earlier readings don't matter.
            let far = before.is_some_and(|before| ts - before > GAP);
            if far
                && *waits
                && let Some(first) = newest(name)
                && !self.knows(name, first)
            {
                wanted.insert(name, first);
            }
            // Whether a rule waits after this reading is not known before it is evaluated.
            (*before, *waits) = ((*before).max(Some(ts)), true);
        }
        Ok(wanted.into_iter().map(|(name, first)| (name.into(), first)).collect())
    }

    /// Whether any rule waits on a device.
    fn waits(&self, device_id: &str) -> bool {
        let states = self.devices.get(device_id).map_or(&[][..], |device| &device.states);
        states.iter().any(|(_, stored)| stored.state().is_waiting())
    }

    fn knows(&self, device_id: &str, newest: Micros) -> bool {
        let recent = self.recent(device_id);
        recent.is_full() && recent.newest() == Some(newest)
    }

    /// The states of a device, to be stored. Empty if all are quiet.
    #[must_use]
    pub fn states(&self, device_id: &str) -> Vec<(Uuid, State)> {
        let states = self.devices.get(device_id).map_or(&[][..], |device| &device.states);
        states.iter().map(|(rule, stored)| (*rule, stored.state())).collect()
    }

    /// Drops the states of rules that are not in the set, and returns the devices that had one.
    pub fn retain(&mut self, set: &RuleSet) -> Vec<Arc<str>> {
        let known: HashSet<Uuid> = set.rules().iter().map(|r| r.id).collect();
        let mut changed = Vec::new();
        for (id, device) in &mut self.devices {
            let before = device.states.len();
            device.states.retain(|(rule, _)| known.contains(rule));
            if device.states.len() < before {
                changed.push(Arc::clone(id));
            }
        }
        changed
    }

    /// An estimate of its memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        // The 16 bytes are the two counters of an `Arc`; what several devices share is divided
        // among them.
        let one = |(id, device): (&Arc<str>, &Device)| {
            size_of::<(Arc<str>, Device)>()
                + id.len()
                + 16
                + device.states.capacity() * size_of::<(Uuid, StoredState)>()
                + device.states.iter().map(|(_, stored)| stored.heap_size()).sum::<usize>()
                + device.applying.as_ref().map_or(0, |(_, applying)| {
                    (applying.len() + 16) / Arc::strong_count(applying).max(1)
                })
        };
        self.devices.iter().map(one).sum()
    }

    /// Evaluates stored readings, in log order. `newest` is the time of the newest reading of a device before
    /// them; readings that are not newer came late, and are left to a repair.
    ///
    /// # Errors
    /// Only if the rows are not from `telemetry`.
    pub fn evaluate(
        &mut self,
        set: &RuleSet,
        batch: &RecordBatch,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> Result<Evaluation, ArrowError> {
        let rows = Rows::of(batch)?;
        let mut evaluation = Evaluation::default();
        let (devices, samples) = self.arrange(set, &rows, newest, site, &mut evaluation);
        // Late readings are reported even without rules, so this comes after `arrange`.
        if set.rules().is_empty() || samples.is_empty() {
            return Ok(evaluation);
        }
        let mut by_row: Vec<usize> = vec![0; batch.num_rows()];
        for sample in &samples {
            if let Some(device) = by_row.get_mut(sample.row) {
                *device = sample.device;
            }
        }
        let no_site = Site::default();
        let site_of = |row: usize| {
            let device = by_row.get(row).and_then(|device| devices.get(*device));
            device.map_or(&no_site, |device| &*device.site)
        };
        let inputs = Inputs::new(batch, site_of, set.needed())?;
        for (index, rule) in set.rules().iter().enumerate() {
            let from = set.begin_of(rule);
            let run =
                RuleRun { rule, index, from, rows: &rows, devices: &devices, inputs: &inputs };
            if let Err(error) = self.run(&run, &samples, &mut evaluation) {
                evaluation.failed.push((rule.id, error.strip_backtrace()));
            }
        }
        Ok(evaluation)
    }

    /// Skips readings that were evaluated before, and only learns the usual step of their devices.
    ///
    /// # Errors
    /// Only if the rows are not from `telemetry`.
    pub fn pass_over(
        &mut self,
        set: &RuleSet,
        batch: &RecordBatch,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> Result<(), ArrowError> {
        let rows = Rows::of(batch)?;
        self.arrange(set, &rows, newest, site, &mut Evaluation::default());
        Ok(())
    }

    /// Finds the devices of a batch, and its readings that did not come late.
    fn arrange(
        &mut self,
        set: &RuleSet,
        rows: &Rows<'_>,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
        evaluation: &mut Evaluation,
    ) -> (Vec<BatchDevice>, Vec<Sample>) {
        let mut indexes: HashMap<&str, usize> = HashMap::new();
        let (mut devices, mut samples) =
            (Vec::<BatchDevice>::new(), Vec::with_capacity(rows.ts.len()));
        let of_now = |row: &usize| set.is_of_now(rows, *row);
        for (row, ts) in rows.ts.iter().copied().enumerate().filter(|(row, _)| of_now(row)) {
            let name = rows.devices.value(row);
            let index = *indexes.entry(name).or_insert_with(|| {
                devices.push(self.batch_device(set, name, newest, site));
                devices.len() - 1
            });
            let Some(device) = devices.get_mut(index) else { continue };
            // A second reading with the same time is late as well: which of the two counts is
            // decided by the order of their storage, in a repair.
            if device.recent.newest().is_some_and(|newest| ts <= newest) {
                let earliest = evaluation.late.entry(Arc::clone(&device.id)).or_insert(ts);
                *earliest = ts.min(*earliest);
                continue;
            }
            samples.push(Sample { row, device: index, before: device.recent });
            device.recent.push(ts);
        }
        for device in &devices {
            if let Some(known) = self.devices.get_mut(&device.id) {
                known.recent = device.recent;
            }
        }
        (devices, samples)
    }

    fn batch_device(
        &mut self,
        set: &RuleSet,
        name: &str,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> BatchDevice {
        let known = self.devices.get_key_value(name).map(|(id, _)| Arc::clone(id));
        let id = known.unwrap_or_else(|| name.into());
        let device = self.devices.entry(Arc::clone(&id)).or_default();
        let site = site(name);
        let applying = match &device.applying {
            Some((revision, applying)) if *revision == set.revision => Arc::clone(applying),
            _ => {
                let applying = set.applying(name, &site);
                let same = self.applying.take().filter(|before| **before == *applying);
                let applying = same.unwrap_or_else(|| applying.into());
                self.applying = Some(Arc::clone(&applying));
                device.applying = Some((set.revision, Arc::clone(&applying)));
                applying
            }
        };
        // Readings that were evaluated elsewhere since are unknown here, but for the newest.
        let newest = newest(name);
        let recent = match device.recent.newest() == newest {
            true => device.recent,
            false => Recent::of(newest),
        };
        BatchDevice { id, site, applying, recent }
    }

    /// Evaluates one rule over the readings of a batch.
    fn run(
        &mut self,
        run: &RuleRun<'_>,
        samples: &[Sample],
        evaluation: &mut Evaluation,
    ) -> datafusion::error::Result<()> {
        let rule = run.rule;
        let mut states: Vec<State> = Vec::with_capacity(run.devices.len());
        let mut any = false;
        for device in run.devices {
            let state = self.devices.get(&device.id).map_or(State::Quiet, |d| d.state(rule.id));
            any |= !state.is_quiet();
            states.push(state);
        }
        let when = rule.compiled.breaches(run.inputs)?;
        // Most rules are quiet on most batches: this saves them the second predicate and the walk
        // over the rows.
        if !any && when.true_count() == 0 {
            return Ok(());
        }
        let clears = rule.compiled.clears(run.inputs)?;
        for sample in samples {
            let Some(state) = states.get_mut(sample.device) else { continue };
            let breach = when.is_valid(sample.row) && when.value(sample.row);
            // Nothing but a breach changes a quiet state.
            if state.is_quiet() && !breach {
                continue;
            }
            if let Some(stepped) = run.apply(state, sample, &when, clears.as_ref()) {
                evaluation.steps.push(stepped);
            }
        }
        for (device, state) in run.devices.iter().zip(states) {
            if let Some(known) = self.devices.get_mut(&device.id)
                // Only what differs is written to control, because most readings change nothing.
                && known.state(rule.id) != state
            {
                known.set(rule.id, state);
                evaluation.changed.insert(Arc::clone(&device.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
