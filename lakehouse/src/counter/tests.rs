use acuvim_wire::{Micros, time::MINUTE};
use proptest::prelude::*;

use super::*;

const STEP: Micros = MINUTE;

/// The consumption of readings that follow each other by a minute, and how many of them are suspect.
fn count_with(counter: Counter, terms: &MeterTerms, values: &[f64]) -> (f64, u32) {
    let mut track = Track::default();
    let (mut counted, mut suspects) = (0.0, 0);
    for (n, value) in values.iter().enumerate() {
        let ts = Micros::try_from(n).expect("few") * STEP;
        let step = track.take(counter, terms, Reading { ts, value: *value });
        counted += step.counted - step.taken_back.map_or(0.0, |t| t.counted);
        suspects += step.suspects;
    }
    ((counted * 1000.0).round() / 1000.0, suspects)
}

fn count(values: &[f64]) -> (f64, u32) {
    count_with(Counter::Total, &MeterTerms::default(), values)
}

#[test]
fn lone_falls_and_jumps_count_nothing() {
    assert_eq!(count(&[13423.7, 13423.8, 0.0, 13423.9, 13424.0]), (0.3, 1));
    assert_eq!(count(&[100.0, 100.1, 41_746_432.0, 100.2]), (0.2, 1));
    // Also if the jump is small enough for one minute.
    assert_eq!(count(&[100.0, 100.1, 150.0, 100.2, 100.3]), (0.3, 1));
    // A register that is stuck, and one that fails now and then.
    assert_eq!(count(&[100.0, 0.0, 0.0, 0.0, 100.2]), (0.2, 3));
    assert_eq!(count(&[100.0, 0.0, 100.1, 0.0, 100.2, 100.3]), (0.3, 2));
    assert_eq!(count(&[100.0, 100.1, 150.0, 0.0, 100.2]), (0.2, 2));
    // Near the end of the digits a zero looks like a roll-over.
    assert_eq!(count(&[99_999_990.0, 99_999_990.1, 0.0, 99_999_990.2]), (0.2, 1));
    assert_eq!(count(&[99_999_990.0, 0.0, 0.0, 0.0, 99_999_990.2]), (0.2, 3));
}

#[test]
fn a_digit_that_flickers_counts_once() {
    assert_eq!(count(&[13423.7, 13423.8, 13423.7, 13423.9]), (0.2, 0));
    assert_eq!(count(&[13423.8, 13423.7, 13423.75, 13423.8, 13423.9]), (0.1, 0));
    assert_eq!(count(&[41_746_432.0, 41_746_428.0, 41_746_436.0]), (4.0, 0));
}

#[test]
fn resets_count_nothing_and_roll_overs_go_on() {
    assert_eq!(count(&[5000.0, 5001.0, 3.0, 4.0, 5.0]), (3.0, 0));
    assert_eq!(count(&[5000.0, 0.0, 0.0, 0.5]), (0.5, 0));
    assert_eq!(count(&[99_999_999.9, 0.4, 0.5]), (0.6, 0));
    assert_eq!(count(&[99_999_999.0, 50_000_000.0, 50_000_001.0]), (1.0, 0));
    let secondary = MeterTerms::of(Some(230.0), None, Some(1_000_000.0));
    assert_eq!(
        count_with(Counter::Total, &secondary, &[999_999.5, 0.25, 0.5]),
        (1.0, 0),
        "behind 999,999.999"
    );
    assert_eq!(count(&[999_999.5, 0.25, 0.5]), (0.25, 0), "unless somebody said so, a reset");
}

#[test]
fn what_cannot_be_is_not_counted() {
    let small = MeterTerms::of(None, Some(60.0), None);
    // At most 1 kWh per minute. A counter that stays beyond that is another one, and counts from there.
    assert_eq!(count_with(Counter::Total, &small, &[0.0, 1.0, 9.0, 9.5]), (1.5, 0));
    assert_eq!(count_with(Counter::Total, &small, &[0.0, 1.0, 9.0, 1.5]), (1.5, 1));
}

#[test]
fn what_an_idle_counter_can_count_does_not_grow() {
    let idle: Vec<f64> = (0..5000).map(|_| 0.0).chain([41_746_432.0, 41_746_432.1]).collect();
    assert_eq!(count(&idle), (0.1, 0), "another counter, which counts on from there");
    assert_eq!(count(&[5000.0, 3.0, 2.9, 3.1]), (0.1, 0), "a reset that flickers");
    let small = MeterTerms::of(None, None, Some(1_000_000.0));
    let beyond = count_with(Counter::Total, &small, &[1_000_100.0, 0.0, 0.5]);
    assert_eq!(beyond, (0.5, 0), "nothing is counted below zero");
}

#[test]
fn net_counters_count_both_ways() {
    let net = |values: &[f64]| count_with(Counter::Net, &MeterTerms::default(), values);
    assert_eq!(net(&[-5.0, -7.5]), (-2.5, 0));
    assert_eq!(net(&[99_999_999.0, 1.0]), (2.0, 0));
    assert_eq!(net(&[1.0, 99_999_999.0]), (-2.0, 0));
    assert_eq!(net(&[10.0, 11.0, 40_000_000.0, 10.0]), (0.0, 1));
    assert_eq!(net(&[500.0, 500.1, 0.0, 500.2]), (0.2, 1));
    assert_eq!(net(&[2.0, 1.0, 0.0, -1.0, 0.0, 1.0]), (-1.0, 0));
}

#[test]
fn a_track_goes_on_from_what_was_stored() {
    let terms = MeterTerms::default();
    let at = |ts, value| Reading { ts: ts * STEP, value };
    let mut track = Track::default();
    track.take(Counter::Total, &terms, at(0, 100.0));
    track.take(Counter::Total, &terms, at(1, 0.0));
    let behind =
        |track: &Track, doubt| Track::behind(track.believed().expect("one"), track.seen(), doubt);
    let mut stored = behind(&track, track.doubt());
    assert_eq!(track.take(Counter::Total, &terms, at(2, 100.5)).suspects, 1);
    let step = stored.take(Counter::Total, &terms, at(2, 100.5));
    assert_eq!((step.counted, step.suspects), (0.5, 1));
    let stored = behind(&stored, None);
    assert!(stored.lacks_before(Counter::Total, &terms, at(3, 100.2)));
    assert!(!stored.lacks_before(Counter::Total, &terms, at(3, 100.6)));
    assert!(!track.lacks_before(Counter::Total, &terms, at(3, 100.2)));
}

#[test]
fn every_energy_is_a_counter_and_nothing_else_is() {
    use acuvim_wire::reading::READINGS;
    let counters = READINGS.iter().filter(|r| Counter::of(r.name).is_some());
    assert!(counters.clone().all(|r| r.description.contains("Rolls over")));
    assert_eq!(
        counters.count(),
        READINGS.iter().filter(|r| r.description.contains("Rolls over")).count()
    );
    assert_eq!(Counter::of("energy_net_kwh"), Some(Counter::Net));
}

/// What happens at a reading, in addition to the consumption since the one before.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Reset,
    Zero,
    Spike(f64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Nothing),
        1 => Just(Event::Reset),
        1 => Just(Event::Zero),
        1 => (1.0_f64..50_000_000.0).prop_map(Event::Spike),
    ]
}

proptest! {
    #[test]
    fn glitches_change_a_sum_by_no_more_than_their_own_steps(
        start in prop_oneof![0.0_f64..1_000_000.0, 99_999_000.0_f64..99_999_999.0],
        story in prop::collection::vec((event(), 0.0_f64..20.0), 2..200),
    ) {
        let terms = MeterTerms::default();
        let (mut shown, mut values, mut truth, mut slack) = (start, Vec::new(), 0.0, 0.01);
        for (event, step) in story {
            truth += if values.is_empty() { 0.0 } else { step };
            shown = (shown + step) % terms.end;
            // A reset loses the consumption up to it. A lost reading delays consumption.
            match event {
                Event::Nothing => values.push(shown),
                Event::Reset => {
                    // Near the end of its range a reset looks like a roll-over.
                    let rest = if shown > terms.end * 0.9 { terms.end - shown } else { 0.0 };
                    (shown, slack) = (0.0, slack + rest + 45.0);
                    values.push(shown);
                }
                Event::Zero => {
                    slack += 45.0;
                    values.push(0.0);
                }
                Event::Spike(by) => {
                    slack += 45.0;
                    values.push((shown + by) % terms.end);
                }
            }
        }
        // One more reading, which decides about the last one.
        values.push(shown);
        let (counted, _) = count(&values);
        prop_assert!((counted - truth).abs() <= slack, "{counted} for {truth}: {values:?}");
    }
}
