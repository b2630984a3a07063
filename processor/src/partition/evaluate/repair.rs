//! Repairs: after late readings, a device's episodes are found again over lake and tail, beginning
//! before the earliest of those readings, in windows of a day. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{AlertChange, RecordedEpisode};
use acuvim_model::event::Marks;
use acuvim_rules::{
    Amendment, Evaluator, Open, Recent, Recorded, RuleSet, State, Step, Stepped, amend, state_at,
};
use acuvim_wire::{Micros, time::DAY};
use arrow::{array::RecordBatch, error::ArrowError};
use uuid::Uuid;

use super::alerts::rule_alert;
use crate::{api_time::api_time, rule_watch::ActiveRules};

/// The longest that a repair waits while late readings of its device keep coming.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The devices that have to be repaired.
#[derive(Debug, Default)]
pub(super) struct RepairQueue {
    due: HashMap<Arc<str>, Due>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    /// The time of the earliest late reading.
    from: Micros,
    /// When the first and the last of the late readings arrived.
    first: Instant,
    last: Instant,
}

impl RepairQueue {
    /// Schedules a repair, or widens the one that is scheduled. True if the change has to be
    /// stored.
    pub fn schedule(&mut self, device_id: Arc<str>, from: Micros, now: Instant) -> bool {
        match self.due.get_mut(&device_id) {
            Some(due) => {
                // The device's newest late reading decides when it is calm, also one that the
                // repair covers already.
                due.last = now;
                let wider = from < due.from;
                due.from = from.min(due.from);
                wider
            }
            None => {
                self.due.insert(device_id, Due { from, first: now, last: now });
                true
            }
        }
    }

    /// The device that has waited longest among those whose late readings have ceased.
    pub fn next(&self, now: Instant, calm: Duration) -> Option<(Arc<str>, Micros)> {
        let ready = |due: &Due| now - due.last >= calm || now - due.first >= LONGEST_WAIT;
        // A list of all: few devices have late readings at a time.
        let ready = self.due.iter().filter(|(_, due)| ready(due));
        let (device_id, due) = ready.min_by_key(|(_, due)| due.first)?;
        Some((Arc::clone(device_id), due.from))
    }

    /// Removes a repair that is done.
    pub fn done(&mut self, device_id: &str) {
        self.due.remove(device_id);
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }
}

/// A repair under way.
#[derive(Debug)]
pub(crate) struct Repair {
    pub device_id: Arc<str>,
    /// From when on episodes are found again; earlier ones are not touched.
    pub begin: Micros,
    /// Up to when readings have been evaluated.
    pub at: Micros,
    set: RuleSet,
    judge: Evaluator,
    /// Rules that could not be evaluated; their episodes stay as they are.
    failed: HashSet<Uuid>,
    found: Vec<Recorded>,
    /// The step that raised each episode.
    stepped: HashMap<Uuid, Stepped>,
}

/// The result of a repair.
#[derive(Debug)]
pub(crate) struct Repaired {
    pub alerts: Vec<AlertChange>,
    /// The states of the rules on the device after its newest reading.
    pub states: Vec<(Uuid, State)>,
    /// The device's last readings.
    pub recent: Recent,
}

/// The time at which a repair must begin so that every rule's state is known there: `certain`, or
/// before the beginning of what a rule has been waiting for. Readings that lack the rule's columns
/// keep it waiting for arbitrarily long.
pub(super) fn begin_of(certain: Micros, states: &[(Uuid, State)]) -> Micros {
    let waiting = states.iter().filter_map(|(_, state)| match state {
        State::Pending(since) => Some(since.ts - 1),
        State::PendingAgain { since, .. } => Some(since.ts - 1),
        State::Open { clearing, .. } => clearing.map(|since| since.ts - 1),
        State::Quiet | State::Rested(_) => None,
    });
    waiting.fold(certain, Micros::min)
}

impl Repair {
    /// Begins with the recorded episodes of the device, as far back as rules remember them, and its
    /// last readings before `begin`.
    pub fn new(
        device_id: Arc<str>,
        begin: Micros,
        set: &RuleSet,
        recorded: &[RecordedEpisode],
        recent: Recent,
    ) -> Self {
        let recorded: Vec<Recorded> = recorded.iter().map(from_control).collect();
        let set = set.for_repair();
        let (mut states, mut found) = (Vec::new(), Vec::new());
        for rule in set.rules() {
            let at = begin.max(set.begin_of(rule));
            let mut state = state_at(&recorded, rule.id, at, rule.compiled.terms());
            // No reading within the longest gap before: that is a gap for every rule.
            if recent.newest().is_none() {
                state.forget_waiting();
            }
            // An episode that is open at the beginning is carried on: its beginning is before the
            // readings that are evaluated.
            if let State::Open { episode, .. } = state {
                let Open { started, raised, flapping, .. } = episode;
                let marks = Marks { started, raised, ended: None, flapping };
                found.push(Recorded {
                    id: episode.id,
                    rule_id: rule.id,
                    rule_version: rule.version,
                    marks,
                });
            }
            if !state.is_quiet() {
                states.push((rule.id, state));
            }
        }
        let mut judge = Evaluator::default();
        judge.load(&device_id, states);
        judge.recall(&device_id, recent);
        Self {
            device_id,
            begin,
            at: begin,
            set,
            judge,
            failed: HashSet::new(),
            found,
            stepped: HashMap::new(),
        }
    }

    /// Whether the repair began with the rules that are in force now.
    pub const fn is_of(&self, set: &RuleSet) -> bool {
        self.set.revision == set.revision
    }

    /// Where the next window ends.
    pub const fn window_end(&self) -> Micros {
        self.at + DAY
    }

    /// Evaluates the readings of the window up to `until`, which are in the order of their times.
    pub fn window(
        &mut self,
        rules: &ActiveRules,
        rows: &RecordBatch,
        until: Micros,
    ) -> Result<(), ArrowError> {
        let newest = self.judge.recent(&self.device_id).newest();
        let evaluated = self.judge.evaluate(&self.set, rows, &|_| newest, &|id| rules.site(id))?;
        self.failed.extend(evaluated.failed.iter().map(|(rule, _)| *rule));
        for stepped in evaluated.steps {
            match stepped.step {
                Step::Raised(open) => {
                    let Open { started, raised, flapping, .. } = open;
                    let marks = Marks { started, raised, ended: None, flapping };
                    self.found.push(Recorded {
                        id: open.id,
                        rule_id: stepped.rule_id,
                        rule_version: stepped.rule_version,
                        marks,
                    });
                    self.stepped.insert(open.id, stepped);
                }
                Step::Cleared { episode, end, confirmed } => {
                    let open = self.found.iter_mut().rev().find(|e| e.id == episode.id);
                    if let Some(open) = open {
                        open.marks.ended = Some((end, confirmed));
                    }
                }
            }
        }
        self.at = until;
        Ok(())
    }

    /// Compares the episodes found with those recorded by now. `before` are the device's states,
    /// which stay for rules that could not be evaluated.
    pub fn finish(
        mut self,
        set: &RuleSet,
        recorded: &[RecordedEpisode],
        before: &[(Uuid, State)],
    ) -> Repaired {
        let failed = &self.failed;
        let rule =
            |id: Uuid| set.rules().iter().find(|rule| rule.id == id && !failed.contains(&id));
        self.found.retain(|episode| !failed.contains(&episode.rule_id));
        // An episode that an older version of a rule recorded stays as that version found it.
        let carried: Vec<Uuid> = self.found.iter().map(|e| e.id).collect();
        let recorded: Vec<Recorded> = recorded
            .iter()
            .map(from_control)
            .filter(|e| {
                let current = rule(e.rule_id).is_some_and(|r| r.version == e.rule_version);
                current || (carried.contains(&e.id) && rule(e.rule_id).is_some())
            })
            .collect();
        let (amendments, renamed) = amend(&recorded, &self.found);
        let changes = amendments.iter().filter_map(|amendment| match amendment {
            Amendment::Add(episode) => {
                let (stepped, rule) = (self.stepped.get(&episode.id)?, rule(episode.rule_id)?);
                let alert = rule_alert(stepped, rule, episode.id, episode.marks);
                Some(AlertChange::Raise(Box::new(alert)))
            }
            Amendment::Change(episode) => Some(AlertChange::Amend {
                id: episode.id,
                created_at: api_time(episode.marks.started.ts),
                raised_at: api_time(episode.marks.raised.ts),
                resolved_at: episode.marks.ended.map(|(end, _)| api_time(end.ts)),
                marks: episode.marks,
            }),
            Amendment::Withdraw(id) => Some(AlertChange::Withdraw { id: *id }),
        });
        let alerts = changes.collect();
        let mut states = self.judge.states(&self.device_id);
        states.retain(|(id, _)| !failed.contains(id));
        states.extend(before.iter().filter(|(id, _)| failed.contains(id)));
        for (_, state) in &mut states {
            if let State::Open { episode, .. } = state
                && let Some((_, id)) = renamed.iter().find(|(new, _)| *new == episode.id)
            {
                episode.id = *id;
            }
        }
        let recent = self.judge.recent(&self.device_id);
        Repaired { alerts, states, recent }
    }
}

const fn from_control(episode: &RecordedEpisode) -> Recorded {
    Recorded {
        id: episode.id,
        rule_id: episode.rule_id,
        rule_version: episode.rule_version,
        marks: episode.marks,
    }
}

/// The time of the last of readings that are in the order of their times.
pub(super) fn last_ts(rows: &RecordBatch) -> Option<Micros> {
    use arrow::{array::AsArray as _, datatypes::TimestampMicrosecondType};
    let times = rows.column_by_name("ts")?.as_primitive::<TimestampMicrosecondType>();
    times.values().last().copied()
}

#[cfg(test)]
mod tests;
