use proptest::prelude::*;

use super::*;
use crate::cadence::Recent;
use acuvim_wire::{Identity, time::SECOND};

const TERMS: Terms = Terms { hold: 20 * SECOND, clear: 10 * SECOND, gap: None, flapping: None };

fn mark(second: i64) -> Mark {
    let at = Identity { epoch: 0, partition: 0, offset: second, item: 0 };
    Mark { ts: second * SECOND, at }
}

/// Runs readings, given as seconds and states (b, c, - or ?), and returns the steps.
fn run(samples: &[(i64, char)], terms: Terms) -> Vec<(char, i64, i64)> {
    let (mut state, mut recent, mut steps) = (State::Quiet, Recent::default(), Vec::new());
    for (second, reading) in samples {
        let reading = match reading {
            'b' => ReadingState::Breach,
            'c' => ReadingState::Clear,
            '-' => ReadingState::Between,
            _ => ReadingState::Unknown,
        };
        let torn = recent.is_torn(second * SECOND, terms.gap);
        let step = state.step(mark(*second), torn, reading, terms, |_| Uuid::nil());
        recent.push(second * SECOND);
        steps.extend(step.map(|step| match step {
            Step::Raised(open) => ('R', open.started.ts / SECOND, open.raised.ts / SECOND),
            Step::Cleared { end, confirmed, .. } => ('C', end.ts / SECOND, confirmed.ts / SECOND),
        }));
    }
    steps
}

#[test]
fn an_episode_is_raised_after_its_hold_time_and_ends_when_the_condition_does() {
    let samples = [(0, 'b'), (10, 'b'), (20, 'b'), (30, 'b'), (40, 'c'), (50, 'c'), (60, 'c')];
    assert_eq!(run(&samples, TERMS), [('R', 0, 20), ('C', 40, 50)]);
    let at_once = run(&[(0, 'b'), (10, 'b'), (20, 'c')], Terms::default());
    assert_eq!(at_once, [('R', 0, 0), ('C', 20, 20)]);
}

#[test]
fn a_reading_without_the_condition_ends_what_was_pending() {
    for breaker in ['c', '-'] {
        let samples = [(0, 'b'), (10, breaker), (20, 'b'), (30, 'b'), (40, 'b')];
        assert_eq!(run(&samples, TERMS), [('R', 20, 40)]);
    }
    assert_eq!(run(&[(0, 'b'), (10, '?'), (20, 'b')], TERMS), [('R', 0, 20)]);
}

#[test]
fn hysteresis_and_a_relapse_keep_an_episode_open() {
    let up = [(0, 'b'), (10, 'b'), (20, 'b')];
    for down in [
        vec![(30, '-'), (40, '-'), (50, '-')],
        vec![(30, 'c'), (40, '-'), (50, 'c')],
        vec![(30, 'c'), (35, 'b'), (45, 'c')],
    ] {
        let samples: Vec<_> = up.iter().copied().chain(down).collect();
        assert_eq!(run(&samples, TERMS), [('R', 0, 20)], "{samples:?}");
    }
}

#[test]
fn a_torn_gap_starts_the_wait_again() {
    assert_eq!(run(&[(0, 'b'), (10, 'b'), (2000, 'b')], TERMS), []);
    assert_eq!(run(&[(0, 'b'), (10, 'b'), (2000, 'b'), (2020, 'b')], TERMS), [('R', 2000, 2020)]);
    let clearing = [(0, 'b'), (20, 'b'), (30, 'c'), (2000, 'c'), (2010, 'c')];
    assert_eq!(run(&clearing, TERMS), [('R', 0, 20), ('C', 2000, 2010)]);
}

#[test]
fn a_slow_logger_is_not_torn_at_its_usual_step() {
    let at = |n: i64, verdict: char| (n * 960, verdict);
    let breach = [at(0, 'c'), at(1, 'c'), at(2, 'b'), at(3, 'b'), at(4, 'c'), at(5, 'c')];
    assert_eq!(run(&breach, TERMS), [('R', 1920, 2880), ('C', 3840, 4800)]);
    let own = Terms { gap: Some(900 * SECOND), ..TERMS };
    assert_eq!(run(&breach, own), [], "a rule that asks for more than the device has");
    let wide = Terms { gap: Some(2 * 86_400 * SECOND), ..TERMS };
    assert_eq!(run(&[(0, 'b'), (86_400, 'b')], wide), [('R', 0, 86_400)]);
}

#[test]
fn a_flapping_condition_becomes_one_episode() {
    let flapping = Some(Flapping { count: 3, window: 100 * SECOND });
    let terms = Terms { flapping, ..Terms::default() };
    let flip = |n: i64| (n * 10, if n % 2 == 0 { 'b' } else { 'c' });
    let samples: Vec<_> = (0..200).map(flip).collect();
    let told = [('R', 0, 0), ('C', 10, 10), ('R', 20, 20), ('C', 30, 30), ('R', 40, 40)];
    assert_eq!(run(&samples, terms), told);
    assert_eq!(run(&samples, Terms::default()).len(), 200, "nothing is flapping unless asked");
    // It clears once it has been calm for a whole window, at the time when the condition ended.
    let calm = (0..20).map(|n| (2000 + n * 10, 'c'));
    let all: Vec<_> = samples.iter().copied().chain(calm).collect();
    let ended = [&told[..], &[('C', 1990, 2090)]].concat();
    assert_eq!(run(&all, terms), ended);
    // From then on episodes are separate again.
    let again: Vec<_> = all.iter().copied().chain([(2300, 'b'), (2310, 'c')]).collect();
    let more = [&ended[..], &[('R', 2300, 2300), ('C', 2310, 2310)]].concat();
    assert_eq!(run(&again, terms), more);
    // Beginnings further apart than the window are not flapping.
    let slow: Vec<_> = samples.iter().map(|(second, verdict)| (second * 6, *verdict)).collect();
    assert_eq!(run(&slow, terms).len(), 200);
}

#[test]
fn flapping_works_with_a_hold_time_too() {
    let flapping = Some(Flapping { count: 2, window: 300 * SECOND });
    let terms = Terms { flapping, ..TERMS };
    let one = |from: i64| (0..6).map(move |n| (from + n * 10, if n < 3 { 'b' } else { 'c' }));
    let samples: Vec<_> = one(0).chain(one(60)).chain(one(120)).collect();
    let told = [('R', 0, 20), ('C', 30, 40), ('R', 60, 80)];
    assert_eq!(run(&samples, terms), told);
}

#[test]
fn states_survive_being_stored() {
    let open = Open { id: Uuid::nil(), started: mark(1), raised: mark(2), flapping: false };
    let begun = Begun::from(vec![1, 2]);
    for state in [
        State::Pending(mark(1)),
        State::Open { episode: open, clearing: None, begun: Begun::default() },
        State::Open { episode: open, clearing: Some(mark(9)), begun },
        State::Rested(begun),
        State::PendingAgain { since: mark(3), begun },
    ] {
        let stored = serde_json::to_string(&state).expect("json");
        assert_eq!(serde_json::from_str::<State>(&stored).ok(), Some(state));
    }
    // The format of earlier versions, without `begun`.
    let stored = serde_json::to_value(open).expect("json");
    let stored = serde_json::json!({"Open": {"episode": stored, "clearing": null}});
    let state = State::Open { episode: open, clearing: None, begun: Begun::default() };
    assert_eq!(serde_json::from_value::<State>(stored).ok(), Some(state));
}

#[test]
fn an_end_and_a_beginning_come_at_their_time_and_not_a_microsecond_earlier() {
    let at = |ts: Micros| Mark { ts, ..mark(0) };
    let mut state = State::Quiet;
    let mut step = |ts: Micros, reading| state.step(at(ts), false, reading, TERMS, |_| Uuid::nil());
    assert_eq!(step(0, ReadingState::Breach), None);
    assert_eq!(step(20 * SECOND - 1, ReadingState::Breach), None);
    assert!(matches!(step(20 * SECOND, ReadingState::Breach), Some(Step::Raised(_))));
    assert_eq!(step(30 * SECOND, ReadingState::Clear), None);
    assert_eq!(step(40 * SECOND - 1, ReadingState::Clear), None);
    let cleared = step(40 * SECOND, ReadingState::Clear);
    assert!(matches!(cleared, Some(Step::Cleared { .. })), "{cleared:?}");
}

#[test]
fn a_missing_value_keeps_everything_waiting_unless_it_follows_a_gap() {
    let pending = [(0, 'b'), (10, '?'), (2000, '?'), (2010, 'b'), (2020, 'b'), (2030, 'b')];
    assert_eq!(run(&pending, TERMS), [('R', 2010, 2030)]);
    let clearing = [(0, 'b'), (20, 'b'), (30, 'c'), (35, '?'), (40, 'c')];
    assert_eq!(run(&clearing, TERMS), [('R', 0, 20), ('C', 30, 40)]);
    let torn = [(0, 'b'), (20, 'b'), (30, 'c'), (2000, '?'), (2005, 'c'), (2010, 'c')];
    assert_eq!(run(&torn, TERMS), [('R', 0, 20)], "ten seconds are not over again");
}

#[test]
fn an_open_episode_survives_a_gap() {
    let samples = [(0, 'b'), (20, 'b'), (9000, 'b'), (9010, 'c'), (9020, 'c')];
    assert_eq!(run(&samples, TERMS), [('R', 0, 20), ('C', 9010, 9020)]);
}

#[test]
fn a_gap_ends_neither_what_counts_for_flapping_nor_what_is_not_waited_for() {
    let begun = Begun::from(vec![7]);
    let open = Open { id: Uuid::nil(), started: mark(1), raised: mark(2), flapping: false };
    for (before, after) in [
        (State::Quiet, State::Quiet),
        (State::Pending(mark(1)), State::Quiet),
        (State::Rested(begun), State::Rested(begun)),
        (State::PendingAgain { since: mark(1), begun }, State::Rested(begun)),
        (
            State::Open { episode: open, clearing: Some(mark(3)), begun },
            State::Open { episode: open, clearing: None, begun },
        ),
    ] {
        let mut state = before;
        state.forget_waiting();
        assert_eq!(state, after);
        assert!(!state.is_waiting());
        assert_eq!(before.is_waiting(), before != after, "{before:?}");
    }
}

#[test]
fn the_id_is_made_from_the_first_reading_of_the_episode() {
    let mut state = State::Quiet;
    let id = |first: &Mark| Uuid::from_u128(u128::try_from(first.at.offset).expect("an offset"));
    for second in [100, 110] {
        assert_eq!(state.step(mark(second), false, ReadingState::Breach, TERMS, id), None);
    }
    let Some(Step::Raised(open)) = state.step(mark(120), false, ReadingState::Breach, TERMS, id)
    else {
        panic!("it is raised")
    };
    assert_eq!(open.id, Uuid::from_u128(100));
    assert_eq!((open.started, open.raised), (mark(100), mark(120)));
}

#[test]
fn the_longest_wait_is_that_of_the_slowest_time() {
    let flapping = Some(Flapping { count: 2, window: 30 * SECOND });
    assert_eq!(TERMS.longest_wait(), 20 * SECOND);
    assert_eq!(Terms { clear: 25 * SECOND, ..TERMS }.longest_wait(), 25 * SECOND);
    assert_eq!(Terms { flapping, ..TERMS }.longest_wait(), 30 * SECOND);
    assert_eq!(Terms::default().longest_wait(), 0);
}

/// Since when the readings up to `last` are all as `wanted`, but for missing values, without a gap.
fn held_since(samples: &[(i64, char)], last: usize, wanted: char, gap: i64) -> Option<i64> {
    let mut since = None;
    for (second, reading) in samples[..=last].iter().rev() {
        match (since, *reading) {
            (Some(behind), _) if behind_gap(samples, *second, behind, gap) => break,
            (_, reading) if reading == wanted => since = Some(*second),
            (Some(_), '?') => {}
            _ => break,
        }
    }
    since
}

/// Whether there is a gap between two readings.
fn behind_gap(samples: &[(i64, char)], from: i64, to: i64, gap: i64) -> bool {
    let between = samples.iter().map(|(second, _)| *second).filter(|at| (from..=to).contains(at));
    let between: Vec<i64> = between.collect();
    between.windows(2).any(|pair| pair[1] - pair[0] > gap)
}

/// The steps by the definition of an episode: each decided from the readings before it alone.
fn expected(samples: &[(i64, char)], terms: Terms) -> Vec<(char, i64, i64)> {
    let (hold, clear) = (terms.hold / SECOND, terms.clear / SECOND);
    let gap = terms.gap.expect("a gap") / SECOND;
    let (mut steps, mut open) = (Vec::new(), false);
    for (index, (second, reading)) in samples.iter().enumerate() {
        let (kind, wanted, wait) = if open { ('C', 'c', clear) } else { ('R', 'b', hold) };
        if *reading != wanted {
            continue;
        }
        let Some(since) = held_since(samples, index, wanted, gap) else { continue };
        if second - since >= wait {
            steps.push((kind, since, *second));
            open = !open;
        }
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn episodes_are_those_of_the_definition(
        apart in prop::collection::vec((1..60_i64, prop::sample::select(vec!['b', 'c', '-', '?'])), 0..40),
        hold in 0..60_i64,
        clear in 0..60_i64,
        gap in 20..70_i64,
    ) {
        let mut second = 0;
        let samples: Vec<(i64, char)> = apart
            .into_iter()
            .map(|(apart, reading)| {
                second += apart;
                (second, reading)
            })
            .collect();
        let terms = Terms {
            hold: hold * SECOND,
            clear: clear * SECOND,
            gap: Some(gap * SECOND),
            flapping: None,
        };
        prop_assert_eq!(run(&samples, terms), expected(&samples, terms));
    }

    #[test]
    fn flapping_never_makes_more_alerts_and_hides_no_beginning(
        readings in prop::collection::vec(prop::sample::select(vec!['b', 'c']), 0..80),
        count in 2..5_usize,
        window in 10..200_i64,
    ) {
        let samples: Vec<(i64, char)> =
            (0..).zip(readings).map(|(n, reading)| (n * 10, reading)).collect();
        let flapping = Some(Flapping { count, window: window * SECOND });
        let plain = run(&samples, Terms::default());
        let calmed = run(&samples, Terms { flapping, ..Terms::default() });
        prop_assert!(calmed.len() <= plain.len());
        // Whatever breaches is inside an episode of either.
        let inside = |steps: &[(char, i64, i64)], second: i64| {
            let began = steps.iter().filter(|(kind, at, _)| *kind == 'R' && *at <= second).count();
            let ended = steps.iter().filter(|(kind, at, _)| *kind == 'C' && *at <= second).count();
            began > ended
        };
        for (second, _) in samples.iter().filter(|(_, reading)| *reading == 'b') {
            prop_assert!(inside(&plain, *second) && inside(&calmed, *second), "{}", second);
        }
    }
}
