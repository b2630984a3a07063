//! The rules over a run of readings: which alerts begin and end, which readings came late.

mod rows;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_schemas::{
    Micros,
    event::{Mark, alert_id},
    time::SECOND,
};
use arrow::{
    array::{Array as _, BooleanArray, RecordBatch},
    error::ArrowError,
};
use uuid::Uuid;

pub(crate) use rows::Rows;

use crate::{
    cadence::{GAP, Recent},
    episode::{State, Step, Verdict},
    inputs::{Inputs, Site},
    message::{Said, render},
    plan::Compiled,
    set::{LiveRule, RuleSet},
};

/// What became known later than this after it happened pages nobody.
pub const BACKFILLED_AFTER: Micros = 15 * 60 * SECOND;

/// What a rule brought about on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The device.
    pub device_id: Arc<str>,
    /// The rule.
    pub rule_id: Uuid,
    /// Its version.
    pub rule_version: i64,
    /// What happened.
    pub step: Step,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit.
    pub threshold: Option<f64>,
    /// In words; empty at the end of an episode.
    pub message: String,
    /// Whether it became known long after it happened.
    pub backfilled: bool,
}

/// What a run of readings came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// What happened, in order for each device and rule.
    pub steps: Vec<Stepped>,
    /// The devices of readings that came late, and the earliest of each.
    pub late: HashMap<Arc<str>, Micros>,
    /// The devices whose stored states have changed.
    pub changed: HashSet<Arc<str>>,
    /// Rules that could not be evaluated, and why.
    pub failed: Vec<(Uuid, String)>,
}

/// The states of rules on devices.
#[derive(Debug, Default)]
pub struct Judge {
    devices: HashMap<Arc<str>, Device>,
    /// Which rules judged the device before: the next one has mostly the same.
    applying: Option<Arc<[bool]>>,
}

#[derive(Debug, Default)]
struct Device {
    /// By rule; quiet ones are not in it.
    states: Vec<(Uuid, Held)>,
    /// Which rules judge it, as of a revision.
    applying: Option<(i64, Arc<[bool]>)>,
    /// Its last readings, as far as they were judged here.
    recent: Recent,
}

/// A state as it is kept: of a large fleet most that are not quiet are pending, which takes a third
/// of the room.
#[derive(Debug)]
enum Held {
    Pending(Mark),
    Other(Box<State>),
}

impl From<State> for Held {
    fn from(state: State) -> Self {
        match state {
            State::Pending(since) => Self::Pending(since),
            State::Quiet | State::Open { .. } | State::Rested(_) | State::PendingAgain { .. } => {
                Self::Other(Box::new(state))
            }
        }
    }
}

impl Held {
    fn state(&self) -> State {
        match self {
            Self::Pending(since) => State::Pending(*since),
            Self::Other(state) => **state,
        }
    }

    fn boxed(&self) -> usize {
        match self {
            Self::Pending(_) => 0,
            Self::Other(_) => size_of::<State>(),
        }
    }
}

/// Room for so many states more is made at once.
const ROOM: usize = 4;

impl Device {
    fn state(&self, rule: Uuid) -> State {
        self.states.iter().find(|(id, _)| *id == rule).map_or(State::Quiet, |(_, s)| s.state())
    }

    fn set(&mut self, rule: Uuid, state: State) {
        let at = self.states.iter().position(|(id, _)| *id == rule);
        match (at, state.is_quiet()) {
            (Some(at), true) => {
                self.states.swap_remove(at);
            }
            (Some(at), false) => {
                if let Some(held) = self.states.get_mut(at) {
                    held.1 = state.into();
                }
            }
            (None, true) => {}
            (None, false) => {
                if self.states.len() == self.states.capacity() {
                    self.states.reserve_exact(ROOM);
                }
                self.states.push((rule, state.into()));
            }
        }
    }
}

/// A device of one batch.
struct Local {
    id: Arc<str>,
    site: Arc<Site>,
    applying: Arc<[bool]>,
    recent: Recent,
}

/// A reading that is to be judged: its row, its device among those of the batch, and the readings
/// before it.
struct Sample {
    row: usize,
    local: usize,
    before: Recent,
}

impl Judge {
    /// Takes a device's stored states up again.
    pub fn load(&mut self, device_id: &str, states: Vec<(Uuid, State)>) {
        let states = states.into_iter().map(|(rule, state)| (rule, state.into())).collect();
        self.devices.entry(device_id.into()).or_default().states = states;
    }

    /// Takes up a device's last readings: what is known of them goes on from there.
    pub fn recall(&mut self, device_id: &str, recent: Recent) {
        self.devices.entry(device_id.into()).or_default().recent = recent;
    }

    /// A device's last readings, as far as they were judged here.
    #[must_use]
    pub fn recent(&self, device_id: &str) -> Recent {
        self.devices.get(device_id).map_or_else(Recent::default, |device| device.recent)
    }

    /// The devices of a batch whose last readings must be taken up before it is judged, since something
    /// waits while readings of theirs lie far apart, each with the newest of them.
    ///
    /// # Errors
    /// Only if the rows are none of `telemetry`.
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
            let far = before.is_some_and(|before| ts - before > GAP);
            if far
                && *waits
                && let Some(first) = newest(name)
                && !self.knows(name, first)
            {
                wanted.insert(name, first);
            }
            // What waits behind the first of these readings is not known before they are judged.
            (*before, *waits) = ((*before).max(Some(ts)), true);
        }
        Ok(wanted.into_iter().map(|(name, first)| (name.into(), first)).collect())
    }

    /// Whether a rule waits for a device's next reading: nothing else asks how far that is.
    fn waits(&self, device_id: &str) -> bool {
        let states = self.devices.get(device_id).map_or(&[][..], |device| &device.states);
        states.iter().any(|(_, held)| held.state().is_waiting())
    }

    fn knows(&self, device_id: &str, newest: Micros) -> bool {
        let recent = self.recent(device_id);
        recent.is_full() && recent.newest() == Some(newest)
    }

    /// A device's states, to be stored; empty if all of them are quiet.
    #[must_use]
    pub fn states(&self, device_id: &str) -> Vec<(Uuid, State)> {
        let states = self.devices.get(device_id).map_or(&[][..], |device| &device.states);
        states.iter().map(|(rule, held)| (*rule, held.state())).collect()
    }

    /// Lets go of the states of rules that are no more; answers with the devices that had one.
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

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let one = |(id, device): (&Arc<str>, &Device)| {
            size_of::<(Arc<str>, Device)>()
                + id.len()
                + 16
                + device.states.capacity() * size_of::<(Uuid, Held)>()
                + device.states.iter().map(|(_, held)| held.boxed()).sum::<usize>()
                + device.applying.as_ref().map_or(0, |(_, applying)| {
                    (applying.len() + 16) / Arc::strong_count(applying).max(1)
                })
        };
        self.devices.iter().map(one).sum()
    }

    /// Judges stored readings in log order. `newest` is the time of a device's newest reading before
    /// them: what is older than that came late, and is not judged here.
    ///
    /// # Errors
    /// Only if the rows are none of `telemetry`.
    pub fn judge(
        &mut self,
        set: &RuleSet,
        batch: &RecordBatch,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> Result<Judged, ArrowError> {
        let rows = Rows::of(batch)?;
        let mut judged = Judged::default();
        let (locals, samples) = self.arrange(set, &rows, newest, site, &mut judged);
        if set.rules().is_empty() || samples.is_empty() {
            return Ok(judged);
        }
        let mut by_row: Vec<usize> = vec![0; batch.num_rows()];
        for sample in &samples {
            if let Some(place) = by_row.get_mut(sample.row) {
                *place = sample.local;
            }
        }
        let nobody = Site::default();
        let site_of = |row: usize| {
            let local = by_row.get(row).and_then(|local| locals.get(*local));
            local.map_or(&nobody, |local| &*local.site)
        };
        let inputs = Inputs::new(batch, site_of, set.needed())?;
        for (place, rule) in set.rules().iter().enumerate() {
            let from = set.begin_of(rule);
            let run = Run { rule, place, from, rows: &rows, locals: &locals, inputs: &inputs };
            if let Err(error) = self.run(&run, &samples, &mut judged) {
                judged.failed.push((rule.id, error.strip_backtrace()));
            }
        }
        Ok(judged)
    }

    /// Passes over readings that were judged before: only how far apart they are is learnt of them.
    ///
    /// # Errors
    /// Only if the rows are none of `telemetry`.
    pub fn pass_over(
        &mut self,
        set: &RuleSet,
        batch: &RecordBatch,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> Result<(), ArrowError> {
        let rows = Rows::of(batch)?;
        self.arrange(set, &rows, newest, site, &mut Judged::default());
        Ok(())
    }

    /// The devices of a batch, and its readings that are in order.
    fn arrange(
        &mut self,
        set: &RuleSet,
        rows: &Rows<'_>,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
        judged: &mut Judged,
    ) -> (Vec<Local>, Vec<Sample>) {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let (mut locals, mut samples) = (Vec::<Local>::new(), Vec::with_capacity(rows.ts.len()));
        let of_now = |row: &usize| set.is_of_now(rows, *row);
        for (row, ts) in rows.ts.iter().copied().enumerate().filter(|(row, _)| of_now(row)) {
            let name = rows.devices.value(row);
            let local = *places.entry(name).or_insert_with(|| {
                locals.push(self.local(set, name, newest, site));
                locals.len() - 1
            });
            let Some(held) = locals.get_mut(local) else { continue };
            if held.recent.newest().is_some_and(|newest| ts <= newest) {
                let earliest = judged.late.entry(Arc::clone(&held.id)).or_insert(ts);
                *earliest = ts.min(*earliest);
                continue;
            }
            samples.push(Sample { row, local, before: held.recent });
            held.recent.push(ts);
        }
        for local in &locals {
            if let Some(device) = self.devices.get_mut(&local.id) {
                device.recent = local.recent;
            }
        }
        (locals, samples)
    }

    fn local(
        &mut self,
        set: &RuleSet,
        name: &str,
        newest: &dyn Fn(&str) -> Option<Micros>,
        site: &dyn Fn(&str) -> Arc<Site>,
    ) -> Local {
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
        // What was read elsewhere since is all that is known.
        let newest = newest(name);
        let recent = match device.recent.newest() == newest {
            true => device.recent,
            false => Recent::of(newest),
        };
        Local { id, site, applying, recent }
    }

    /// One rule over the readings of a batch.
    fn run(
        &mut self,
        run: &Run<'_>,
        samples: &[Sample],
        judged: &mut Judged,
    ) -> datafusion::error::Result<()> {
        let rule = run.rule;
        let mut states: Vec<State> = Vec::with_capacity(run.locals.len());
        let mut any = false;
        for local in run.locals {
            let state = self.devices.get(&local.id).map_or(State::Quiet, |d| d.state(rule.id));
            any |= !state.is_quiet();
            states.push(state);
        }
        let when = rule.compiled.breaches(run.inputs)?;
        if !any && when.true_count() == 0 {
            return Ok(());
        }
        let clears = rule.compiled.clears(run.inputs)?;
        for sample in samples {
            let (Some(state), Some(local)) =
                (states.get_mut(sample.local), run.locals.get(sample.local))
            else {
                continue;
            };
            let breach = when.is_valid(sample.row) && when.value(sample.row);
            if state.is_quiet() && !breach {
                continue;
            }
            if let Some(stepped) = run.sample(state, local, sample, &when, clears.as_ref()) {
                judged.steps.push(stepped);
            }
        }
        for (local, state) in run.locals.iter().zip(states) {
            if let Some(device) = self.devices.get_mut(&local.id)
                && device.state(rule.id) != state
            {
                device.set(rule.id, state);
                judged.changed.insert(Arc::clone(&local.id));
            }
        }
        Ok(())
    }
}

/// One rule on one batch.
struct Run<'a> {
    rule: &'a LiveRule,
    place: usize,
    /// From which event time on it judges.
    from: Micros,
    rows: &'a Rows<'a>,
    locals: &'a [Local],
    inputs: &'a Inputs,
}

impl Run<'_> {
    fn sample(
        &self,
        state: &mut State,
        local: &Local,
        sample: &Sample,
        when: &BooleanArray,
        clears: Option<&BooleanArray>,
    ) -> Option<Stepped> {
        let (rule, row) = (self.rule, sample.row);
        let received = self.rows.received.get(row).copied().unwrap_or(0);
        let ours = local.applying.get(self.place).copied().unwrap_or(false);
        let mark = self.rows.mark(row);
        if mark.ts < self.from {
            return None;
        }
        let verdict = match ours && received >= rule.since {
            true => Compiled::verdict(when, clears, row),
            false => Verdict::Unknown,
        };
        let id = |first: &Mark| alert_id(&local.id, &rule.id.to_string(), first.ts);
        let terms = rule.compiled.terms;
        let torn = sample.before.is_torn(mark.ts, terms.gap);
        let step = state.step(mark, torn, verdict, terms, id)?;
        let raised = matches!(step, Step::Raised(_));
        let flaps = matches!(step, Step::Raised(open) if open.flapping);
        let (value, threshold) = match raised {
            true => rule.compiled.values(self.inputs, row),
            false => (None, None),
        };
        let said = || Said {
            rule: &rule.body.name,
            device_id: &local.id,
            value,
            threshold,
            inputs: self.inputs,
            row,
        };
        let mut message = match raised {
            true => render(rule.body.message.as_deref(), &said()),
            false => String::new(),
        };
        if flaps {
            let (count, seconds) = (rule.body.flap_count, rule.body.flap_seconds);
            message.push_str(&format!(
                " (it flaps: {count} times within {seconds} s; open until it has ceased for as long)"
            ));
        }
        Some(Stepped {
            device_id: Arc::clone(&local.id),
            rule_id: rule.id,
            rule_version: rule.version,
            step,
            value,
            threshold,
            message,
            backfilled: received - mark.ts > BACKFILLED_AFTER,
        })
    }
}
