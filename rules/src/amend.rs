//! A repair's end: what is recorded against what it would have been had all readings come in order.

use acuvim_schemas::{Micros, event::Marks};
use uuid::Uuid;

use crate::episode::{Open, State};

/// An episode as it is recorded, or as a repair found it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recorded {
    /// The alert's id.
    pub id: Uuid,
    /// The rule.
    pub rule_id: Uuid,
    /// Its version.
    pub rule_version: i64,
    /// The readings that it rests on.
    pub marks: Marks,
}

/// What a repair changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amendment {
    /// An episode that nobody knew of.
    Add(Recorded),
    /// Other times.
    Change(Recorded),
    /// It never was.
    Withdraw(Uuid),
}

impl Recorded {
    fn overlaps(&self, other: &Self) -> bool {
        let end = |e: &Self| e.marks.ended.map_or(Micros::MAX, |(_, confirmed)| confirmed.ts);
        self.rule_id == other.rule_id
            && self.marks.started.ts <= end(other)
            && other.marks.started.ts <= end(self)
    }

    fn same_times(&self, other: &Self) -> bool {
        let times = |e: &Self| {
            let ended = e.marks.ended.map(|(end, confirmed)| (end.ts, confirmed.ts));
            (e.marks.started.ts, e.marks.raised.ts, ended)
        };
        times(self) == times(other)
    }
}

/// The state of a rule just before a time, from its recorded episodes. Exact where the time lies
/// further back than the rule waits, and a gap before anything that changed.
#[must_use]
pub fn state_at(recorded: &[Recorded], rule_id: Uuid, at: Micros) -> State {
    let ours = recorded.iter().filter(|e| e.rule_id == rule_id && e.marks.started.ts < at);
    let Some(last) = ours.max_by_key(|e| e.marks.started.ts) else { return State::Quiet };
    let marks = last.marks;
    let episode = Open { id: last.id, started: marks.started, raised: marks.raised };
    match marks.ended {
        _ if marks.raised.ts >= at => State::Pending(marks.started),
        Some((_, confirmed)) if confirmed.ts < at => State::Quiet,
        Some((end, _)) if end.ts < at => State::Open { episode, clearing: Some(end) },
        _ => State::Open { episode, clearing: None },
    }
}

/// What must change so that the recorded episodes are the found ones. A found episode takes the id
/// of a recorded one that it overlaps, since people may have acknowledged that: its new id is told
/// beside the old.
#[must_use]
pub fn amend(recorded: &[Recorded], found: &[Recorded]) -> (Vec<Amendment>, Vec<(Uuid, Uuid)>) {
    let mut left: Vec<&Recorded> = recorded.iter().collect();
    let (mut changes, mut renamed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for episode in found {
        match left.iter().position(|r| r.id == episode.id) {
            Some(at) => {
                if !left.swap_remove(at).same_times(episode) {
                    changes.push(Amendment::Change(*episode));
                }
            }
            None => others.push(episode),
        }
    }
    for episode in others {
        match left.iter().position(|r| r.overlaps(episode)) {
            Some(at) => {
                let id = left.swap_remove(at).id;
                renamed.push((episode.id, id));
                changes.push(Amendment::Change(Recorded { id, ..*episode }));
            }
            None => changes.push(Amendment::Add(*episode)),
        }
    }
    changes.extend(left.into_iter().map(|r| Amendment::Withdraw(r.id)));
    (changes, renamed)
}
