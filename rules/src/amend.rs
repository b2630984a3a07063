//! The end of a repair: compares the recorded episodes with those that the readings give in their right
//! order.

use acuvim_model::event::Marks;
use acuvim_wire::Micros;
use uuid::Uuid;

use crate::{
    episode::{Open, State, Terms},
    flapping::Begun,
};

/// An episode, as it is recorded or as a repair found it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recorded {
    /// The id of its alert.
    pub id: Uuid,
    /// The id of the rule.
    pub rule_id: Uuid,
    /// The version of the rule that found it.
    pub rule_version: i64,
    /// The readings that raised and cleared it.
    pub marks: Marks,
}

/// A change that a repair makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amendment {
    /// An episode that is not recorded, and gets an alert of its own.
    Add(Recorded),
    /// An episode with other times.
    Change(Recorded),
    /// An episode that did not happen; the id of its alert.
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
            (e.marks.started.ts, e.marks.raised.ts, ended, e.marks.flapping)
        };
        times(self) == times(other)
    }
}

/// The state of a rule on a device just before a time, from its recorded episodes.
///
/// Exact if no reading has changed between that time and a moment earlier by the longest wait of the rule and
/// a gap. For flapping, the recorded episodes must reach back over its window.
#[must_use]
pub fn state_at(recorded: &[Recorded], rule_id: Uuid, at: Micros, terms: Terms) -> State {
    let ours = recorded.iter().filter(|e| e.rule_id == rule_id && e.marks.started.ts < at);
    let mut ours: Vec<&Recorded> = ours.collect();
    ours.sort_unstable_by_key(|e| e.marks.started.ts);
    let Some((last, earlier)) = ours.split_last() else { return State::Quiet };
    let began = |some: &[&Recorded]| -> Begun {
        some.iter().map(|e| e.marks.started.ts).collect::<Vec<_>>().into()
    };
    let Recorded { id, marks, .. } = **last;
    let Marks { started, raised, flapping, .. } = marks;
    let (episode, begun) = (Open { id, started, raised, flapping }, began(&ours));
    match marks.ended {
        // Its own beginning is not counted among those before it: it would make itself flap.
        _ if raised.ts >= at => State::pending(started, began(earlier)),
        Some((_, confirmed)) if confirmed.ts < at => State::rest(begun, at, terms),
        Some((end, _)) if end.ts < at => State::Open { episode, clearing: Some(end), begun },
        _ => State::Open { episode, clearing: None, begun },
    }
}

/// The changes that turn the recorded episodes into the found ones.
///
/// A found episode keeps the id of a recorded one that it overlaps, because people may have acknowledged its
/// alert. The second result pairs the id under which it was found with the id that it keeps.
#[must_use]
pub fn amend(recorded: &[Recorded], found: &[Recorded]) -> (Vec<Amendment>, Vec<(Uuid, Uuid)>) {
    let mut left: Vec<&Recorded> = recorded.iter().collect();
    let (mut changes, mut renamed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for episode in found {
        // By id first, so that an episode which only overlaps can't take the alert of one that did
        // not change.
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

#[cfg(test)]
mod tests;
