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
fn a_large_step_from_a_zero_does_not_count() {
    // Each is within what a meter can count in a minute, and no later reading contradicts it.
    assert_eq!(count(&[0.0, 900.0, 900.1]), (0.1, 0), "the first reading had failed");
    assert_eq!(count(&[5000.0, 0.0, 900.0, 900.1]), (0.1, 0), "the zero was no part of the reset");
    assert_eq!(count(&[0.0, 900.0, 0.5, 0.6]), (0.6, 1), "the jump was the glitch");
    assert_eq!(count(&[0.0, 0.0, 0.0, 0.5, 0.7]), (0.7, 0), "a new meter counts from its zero");
    assert_eq!(count(&[5000.0, 0.0, 0.5, 0.7]), (0.7, 0), "and so does one that was reset");
    assert_eq!(count(&[0.0, 10.0, 20.0]), (20.0, 0), "600 kW for a minute are ten kWh");
    let small = MeterTerms::of(None, Some(60.0), None);
    assert_eq!(count_with(Counter::Total, &small, &[0.0, 1.0, 9.0, 9.5]), (1.5, 0));
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

/// A reading some minutes after the first.
fn at(minutes: Micros, value: f64) -> Reading {
    Reading { ts: minutes * STEP, value }
}

#[test]
fn a_meter_can_count_as_fast_as_its_greatest_power_and_no_faster() {
    let terms = MeterTerms::of(None, Some(60.0), Some(1e6));
    // 60 kW are 1 kWh a minute, and the digits may flicker by 0.02 in addition.
    let counted = |minutes, value| {
        let mut track = Track::default();
        track.take(Counter::Total, &terms, at(0, 10.0));
        track.take(Counter::Total, &terms, at(minutes, value)).counted
    };
    assert!((counted(1, 11.02) - 1.02).abs() < 1e-9);
    assert!(counted(1, 11.03).abs() < 1e-9, "too much for a minute");
    assert!((counted(2, 11.03) - 1.03).abs() < 1e-9, "possible in two");
    assert!((counted(0, 11.0) - 1.0).abs() < 1e-9, "a minute is the least");
}

#[test]
fn limits_follow_from_what_is_known_of_a_meter() {
    let default = MeterTerms::default();
    assert_eq!(MeterTerms::of(None, None, None), default);
    assert!((default.per_hour - 103_500.0).abs() < 1e-6, "690 V and 50,000 A in three phases");
    let of_volts = MeterTerms::of(Some(230.0), None, None);
    assert!((of_volts.per_hour - 34_500.0).abs() < 1e-6);
    let both = MeterTerms::of(Some(230.0), Some(5.0), Some(1e6));
    assert_eq!(both, MeterTerms { end: 1e6, per_hour: 5.0 }, "a stated power counts first");
}

#[test]
fn the_tolerance_is_a_digit_of_the_meter_or_of_its_float() {
    let terms = MeterTerms::default();
    assert!((terms.tolerance(5.0) - 0.1001).abs() < 1e-9, "its last digit is a tenth");
    assert!((terms.tolerance(-41_746_432.0) - 5.2235).abs() < 1e-3, "floats have 24 bits");
    let small = MeterTerms { end: 1000.0, ..terms };
    assert!((small.tolerance(5.0) - 0.010_01).abs() < 1e-9, "a hundredth is the least");
}

#[test]
fn a_roll_over_begins_near_the_end_and_ends_near_the_beginning() {
    let terms = MeterTerms { end: 1000.0, per_hour: 60_000.0 };
    let counted = |from, to| {
        let mut track = Track::default();
        track.take(Counter::Total, &terms, at(0, from));
        track.take(Counter::Total, &terms, at(1, to)).counted
    };
    assert!((counted(900.0, 100.0) - 200.0).abs() < 1e-9, "both edges are in");
    assert!(counted(899.9, 50.0).abs() < 1e-9);
    assert!(counted(950.0, 100.1).abs() < 1e-9);
    assert!(counted(950.0, 0.0).abs() < 1e-9, "zero is what an unread register shows");
    assert!((counted(950.0, 0.01) - 50.01).abs() < 1e-9);
}

#[test]
fn the_first_reading_counts_nothing_and_is_believed() {
    let mut track = Track::default();
    assert_eq!(track.believed(), None);
    let first = track.take(Counter::Total, &MeterTerms::default(), at(3, 500.0));
    assert_eq!(first, CountOutcome { believed: true, ..CountOutcome::default() });
    assert_eq!((track.believed(), track.seen()), (Some(at(3, 500.0)), 3 * STEP));
}

#[test]
fn a_suspect_reading_is_named_when_it_is_found_out() {
    let terms = MeterTerms::default();
    let mut track = Track::default();
    track.take(Counter::Total, &terms, at(0, 100.0));
    assert!(!track.take(Counter::Total, &terms, at(1, 0.0)).believed, "in doubt");
    track.take(Counter::Total, &terms, at(2, 0.0));
    assert_eq!(track.doubt(), Some(Doubt { reading: at(1, 0.0), times: 2 }));
    let next = track.take(Counter::Total, &terms, at(3, 100.5));
    assert_eq!((next.suspects, next.suspect), (2, Some(at(1, 0.0))), "the first of them");
    assert!((next.counted - 0.5).abs() < 1e-9 && next.taken_back.is_none());
    assert_eq!(track.doubt(), None);
}

#[test]
fn a_jump_is_taken_back_by_the_reading_that_contradicts_it() {
    let terms = MeterTerms::default();
    let mut track = Track::default();
    track.take(Counter::Total, &terms, at(0, 100.0));
    track.take(Counter::Total, &terms, at(1, 150.0));
    let next = track.take(Counter::Total, &terms, at(2, 101.0));
    let back = next.taken_back.expect("the jump");
    assert_eq!((back.counted, back.stood), (50.0, at(0, 100.0)));
    assert_eq!((next.suspects, next.suspect), (1, Some(at(1, 150.0))));
    assert!((next.counted - 1.0).abs() < 1e-9);
    assert_eq!(track.believed(), Some(at(2, 101.0)));
}

#[test]
fn the_time_without_a_change_does_not_widen_what_can_be_counted() {
    let terms = MeterTerms::of(None, Some(60.0), None);
    let mut track = Track::default();
    track.take(Counter::Total, &terms, at(0, 10.0));
    // The counter shows the same value for an hour.
    for minute in 1..=60 {
        track.take(Counter::Total, &terms, at(minute, 10.0));
    }
    assert_eq!((track.believed(), track.seen()), (Some(at(0, 10.0)), 60 * STEP));
    let jump = track.take(Counter::Total, &terms, at(61, 40.0));
    assert!(!jump.believed && jump.counted.abs() < 1e-9, "30 kWh in a minute");
}

#[test]
fn a_track_that_passes_a_stored_state_keeps_what_it_knows_of_the_same_reading() {
    let terms = MeterTerms::default();
    let mut track = Track::default();
    track.take(Counter::Total, &terms, at(0, 100.0));
    track.take(Counter::Total, &terms, at(1, 150.0));
    let mut same = track;
    assert!(same.pass(&Track::behind(at(1, 150.0), 5 * STEP, None)));
    assert_eq!(same.seen(), 5 * STEP);
    assert!(same.take(Counter::Total, &terms, at(6, 101.0)).taken_back.is_some());
    assert!(!track.pass(&Track::behind(at(2, 151.0), 2 * STEP, None)));
    assert!(track.take(Counter::Total, &terms, at(6, 101.0)).taken_back.is_none(), "it is unknown");
}

#[test]
fn names_say_the_kind_of_counter() {
    assert_eq!(Counter::of("energy_import_kwh"), Some(Counter::Total));
    assert_eq!(Counter::of("energy_reactive_net_kvarh"), Some(Counter::Net));
    assert_eq!(Counter::of("power_net_kw"), None);
    assert_eq!(Counter::of(""), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn without_glitches_everything_is_counted_across_any_number_of_roll_overs(
        start in 0.0_f64..1000.0,
        steps in prop::collection::vec(0.1_f64..40.0, 1..200),
    ) {
        let terms = MeterTerms { end: 1000.0, ..MeterTerms::default() };
        let mut shown = start;
        let mut values = vec![shown];
        for step in &steps {
            shown = (shown + step) % terms.end;
            values.push(shown);
        }
        let (counted, suspects) = count_with(Counter::Total, &terms, &values);
        let truth: f64 = steps.iter().sum();
        prop_assert!((counted - truth).abs() < 0.01, "{counted} for {truth}");
        prop_assert_eq!(suspects, 0);
    }

    #[test]
    fn a_total_never_counts_down_and_no_more_than_its_limits_allow(
        values in prop::collection::vec(-10.0_f64..2000.0, 1..60),
    ) {
        let terms = MeterTerms { end: 1000.0, per_hour: 600.0 };
        let mut track = Track::default();
        let mut sum = 0.0;
        for (minute, value) in (0..).zip(&values) {
            let step = track.take(Counter::Total, &terms, at(minute, *value));
            prop_assert!(step.counted >= 0.0);
            sum += step.counted - step.taken_back.map_or(0.0, |back| back.counted);
            prop_assert!(sum >= -1e-6, "{sum}");
            let most = f64::from(i32::try_from(minute.max(1)).expect("few")) * 11.0;
            prop_assert!(sum <= most, "{sum} after {minute} minutes");
        }
    }

    #[test]
    fn a_net_counter_returns_to_where_it_was(
        steps in prop::collection::vec(-40.0_f64..40.0, 1..50),
    ) {
        let terms = MeterTerms::default();
        let there = steps.iter().scan(5000.0, |shown, step| { *shown += step; Some(*shown) });
        let mut values: Vec<f64> = std::iter::once(5000.0).chain(there).collect();
        values.extend(values.clone().into_iter().rev());
        let (counted, _) = count_with(Counter::Net, &terms, &values);
        prop_assert!(counted.abs() < 0.01, "{counted}");
    }
}
