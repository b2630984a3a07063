use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

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
    let with =
        |id: u128, started, ended| Recorded { id: Uuid::from_u128(id), ..recorded(started, ended) };
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

fn episode(id: u128, started: Micros, raised: Micros, ended: Option<(Micros, Micros)>) -> Recorded {
    let ended = ended.map(|(end, confirmed)| (mark(end), mark(confirmed)));
    let marks = Marks { started: mark(started), raised: mark(raised), ended, flapping: false };
    Recorded { id: Uuid::from_u128(id), rule_id: Uuid::nil(), rule_version: 1, marks }
}

#[test]
fn the_state_is_the_one_before_the_reading_at_that_time() {
    let terms = Terms { hold: 20, clear: 10, ..Terms::default() };
    let all = [episode(1, 100, 120, Some((150, 160)))];
    let at = |at: Micros| state_at(&all, Uuid::nil(), at, terms);
    assert_eq!(at(100), State::Quiet, "its first reading is not evaluated yet");
    assert_eq!(at(101), State::Pending(mark(100)));
    assert_eq!(at(120), State::Pending(mark(100)));
    let open = |state: State| match state {
        State::Open { episode, clearing, .. } => Some((episode.raised.ts, clearing.map(|m| m.ts))),
        _ => None,
    };
    assert_eq!(open(at(121)), Some((120, None)));
    assert_eq!(open(at(150)), Some((120, None)));
    assert_eq!(open(at(151)), Some((120, Some(150))));
    assert_eq!(open(at(160)), Some((120, Some(150))));
    assert_eq!(at(161), State::Quiet);
    assert_eq!(state_at(&all, Uuid::max(), 130, terms), State::Quiet, "of another rule");
}

#[test]
fn an_episode_that_is_pending_again_has_the_earlier_ones_and_not_itself() {
    let terms =
        Terms { hold: 20, flapping: Some(Flapping { count: 3, window: 500 }), ..Terms::default() };
    let all = [episode(1, 0, 20, Some((30, 30))), episode(2, 100, 120, None)];
    let begun = Begun::from(vec![0]);
    let wanted = State::PendingAgain { since: mark(100), begun };
    assert_eq!(state_at(&all, Uuid::nil(), 110, terms), wanted);
    let State::Open { begun, .. } = state_at(&all, Uuid::nil(), 121, terms) else { panic!("open") };
    assert_eq!(begun, Begun::from(vec![0, 100]));
}

#[test]
fn nothing_is_amended_where_nothing_changed() {
    let all = [episode(1, 0, 20, Some((30, 40))), episode(2, 100, 120, None)];
    assert_eq!(amend(&all, &all), (Vec::new(), Vec::new()));
    assert_eq!(amend(&[], &[]), (Vec::new(), Vec::new()));
    // The identity of a reading is no reason to change an alert.
    let mut other = all;
    other[0].marks.started.at.offset += 1;
    assert_eq!(amend(&all, &other).0, []);
}

#[test]
fn every_time_of_an_episode_counts_as_a_change() {
    let known = episode(1, 0, 20, Some((30, 40)));
    let mut flapping = known;
    flapping.marks.flapping = true;
    for changed in [
        episode(1, 0, 21, Some((30, 40))),
        episode(1, 0, 20, Some((31, 40))),
        episode(1, 0, 20, Some((30, 41))),
        episode(1, 0, 20, None),
        flapping,
    ] {
        assert_eq!(amend(&[known], &[changed]).0, [Amendment::Change(changed)]);
    }
}

#[test]
fn an_episode_of_another_rule_is_never_taken_for_this_ones() {
    let known = episode(1, 0, 20, None);
    let other = Recorded { id: Uuid::from_u128(2), rule_id: Uuid::max(), ..known };
    let (changes, renamed) = amend(&[known], &[other]);
    assert_eq!(changes, [Amendment::Add(other), Amendment::Withdraw(known.id)]);
    assert!(renamed.is_empty());
}

#[test]
fn episodes_that_only_touch_overlap_and_those_a_moment_apart_do_not() {
    let known = episode(1, 0, 20, Some((90, 100)));
    let touching = episode(2, 100, 120, None);
    assert_eq!(amend(&[known], &[touching]).1, [(touching.id, known.id)]);
    let apart = episode(2, 101, 120, None);
    assert_eq!(amend(&[known], &[apart]).1, []);
}

fn episodes(ids: std::ops::Range<u128>) -> impl Strategy<Value = Vec<Recorded>> {
    prop::collection::vec((1..50_i64, 0..30_i64, 1..30_i64, 0..10_i64), 0..6).prop_map(
        move |lengths| {
            let (mut at, mut all) = (0, Vec::new());
            for (id, (quiet, hold, lasts, clear)) in ids.clone().zip(lengths) {
                let (started, raised) = (at + quiet, at + quiet + hold);
                at = raised + lasts + clear;
                all.push(episode(id, started, raised, Some((raised + lasts, at))));
            }
            all
        },
    )
}

fn times<'a>(all: impl Iterator<Item = &'a Recorded>) -> Vec<(Micros, Micros, Option<Micros>)> {
    let ended = |e: &Recorded| e.marks.ended.map(|(end, _)| end.ts);
    let mut times: Vec<_> =
        all.map(|e| (e.marks.started.ts, e.marks.raised.ts, ended(e))).collect();
    times.sort_unstable();
    times
}

proptest! {
    #[test]
    fn amendments_turn_what_is_recorded_into_what_was_found(
        recorded in episodes(1..100),
        found in episodes(3..100).prop_shuffle(),
    ) {
        let (amendments, renamed) = amend(&recorded, &found);
        let mut alerts: BTreeMap<Uuid, Recorded> = recorded.iter().map(|e| (e.id, *e)).collect();
        for amendment in amendments {
            match amendment {
                Amendment::Add(episode) => prop_assert!(alerts.insert(episode.id, episode).is_none()),
                Amendment::Change(episode) => prop_assert!(alerts.insert(episode.id, episode).is_some()),
                Amendment::Withdraw(id) => prop_assert!(alerts.remove(&id).is_some()),
            }
        }
        prop_assert_eq!(times(alerts.values()), times(found.iter()));
        // An id is given up for one recorded episode alone.
        let kept: BTreeSet<Uuid> = renamed.iter().map(|(_, kept)| *kept).collect();
        prop_assert_eq!(kept.len(), renamed.len());
        prop_assert!(renamed.iter().all(|(new, kept)| !alerts.contains_key(new) && alerts.contains_key(kept)));
    }
}
