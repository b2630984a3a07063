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
    /// A new episode.
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
mod tests {
    use super::*;
    use crate::flapping::Flapping;
    use acuvim_model::event::Mark;
    use acuvim_wire::Identity;

    fn mark(ts: Micros) -> Mark {
        Mark { ts, at: Identity { epoch: 0, partition: 0, offset: ts, item: 0 } }
    }

    fn recorded(started: Micros, ended: Option<Micros>) -> Recorded {
        let ended = ended.map(|ts| (mark(ts), mark(ts)));
        let marks = Marks { started: mark(started), raised: mark(started), ended, flapping: false };
        Recorded { id: Uuid::nil(), rule_id: Uuid::nil(), rule_version: 1, marks }
    }

    #[test]
    fn the_state_before_a_repair_has_the_episodes_within_the_flapping_window() {
        let flapping = Some(Flapping { count: 3, window: 100 });
        let terms = Terms { flapping, ..Terms::default() };
        let all = [recorded(20, Some(30)), recorded(0, Some(10)), recorded(40, None)];
        let at = |at: Micros, terms: Terms| state_at(&all, Uuid::nil(), at, terms);
        assert_eq!(at(0, terms), State::Quiet);
        assert_eq!(at(15, terms), State::Rested(Begun::from(vec![0])));
        assert_eq!(at(35, terms), State::Rested(Begun::from(vec![0, 20])));
        assert_eq!(at(35, Terms::default()), State::Quiet);
        let State::Open { begun, .. } = at(50, terms) else { panic!("it is open") };
        assert_eq!(begun, Begun::from(vec![0, 20, 40]));
        let over = [recorded(0, Some(10))];
        assert_eq!(state_at(&over, Uuid::nil(), 99, terms), State::Rested(Begun::from(vec![0])));
        assert_eq!(state_at(&over, Uuid::nil(), 100, terms), State::Quiet);
    }

    #[test]
    fn an_overlapping_episode_keeps_its_alert_and_others_come_and_go() {
        let with = |id: u128, started, ended| Recorded {
            id: Uuid::from_u128(id),
            ..recorded(started, ended)
        };
        let known = [with(1, 0, Some(10)), with(2, 100, Some(110)), with(3, 200, None)];
        let found = [with(3, 200, None), with(4, 5, Some(20)), with(5, 300, None)];
        let (changes, renamed) = amend(&known, &found);
        assert_eq!(renamed, [(Uuid::from_u128(4), Uuid::from_u128(1))]);
        let moved = Recorded { id: Uuid::from_u128(1), ..found[1] };
        let expected = [Amendment::Change(moved), Amendment::Withdraw(Uuid::from_u128(2))];
        // The open episode overlaps the one that begins after it, and is matched by its id first.
        assert_eq!(changes.len(), 3);
        assert!(expected.iter().all(|change| changes.contains(change)), "{changes:?}");
        assert!(changes.contains(&Amendment::Add(found[2])), "{changes:?}");
    }
}
