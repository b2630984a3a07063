use acuvim_wire::time::SECOND;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    Evaluator,
    testing::{Reading, live, reading, rows, set_of},
};

const NO_LIMIT: Micros = 1_000_000 * SECOND;

fn replay(fields: serde_json::Value) -> Replay {
    Replay::new(live(1, fields).compiled, NO_LIMIT)
}

fn everywhere(_: &str) -> Option<Arc<Site>> {
    Some(Arc::new(Site { nominal_voltage_v: Some(230.0), ..Site::default() }))
}

/// The episodes of each device, in seconds.
fn found(replay: &Replay) -> Vec<(String, i64, i64, Option<i64>)> {
    let mut all = Vec::new();
    for (device, episodes) in replay.found() {
        for e in episodes {
            let ended = e.ended.map(|at| at / SECOND);
            all.push((device.to_string(), e.started / SECOND, e.raised / SECOND, ended));
        }
    }
    all.sort();
    all
}

#[test]
fn rows_of_a_window_may_come_in_any_order() {
    let mut replay = replay(json!({"for_seconds": 20}));
    replay
        .rows(&rows(&[reading("a", 20, 260.0), reading("b", 0, 260.0)]), &everywhere)
        .expect("it");
    replay
        .rows(&rows(&[reading("a", 0, 260.0), reading("a", 30, 230.0)]), &everywhere)
        .expect("it");
    replay.end_window();
    replay.rows(&rows(&[reading("b", 40, 260.0)]), &everywhere).expect("it");
    assert_eq!(found(&replay).len(), 1, "the second window is not over");
    replay.end_window();
    let wanted = [("a".into(), 0, 20, Some(30)), ("b".into(), 0, 40, None)];
    assert_eq!(found(&replay), wanted);
    assert_eq!((replay.episodes(), replay.readings()), (2, 5));
}

#[test]
fn devices_that_the_rule_is_not_for_are_neither_evaluated_nor_counted() {
    let mut replay = replay(json!({"when": "voltage_l1_v > 1.1 * nominal_voltage_v"}));
    let sites = |device: &str| match device {
        "a" => everywhere(device),
        "b" => Some(Arc::default()),
        _ => None,
    };
    let all = ["a", "b", "c"].map(|device| reading(device, 0, 260.0));
    replay.rows(&rows(&all), &sites).expect("evaluated");
    replay.end_window();
    assert_eq!(replay.readings(), 1);
    let devices: Vec<_> = replay.found().map(|(device, _)| device.to_string()).collect();
    assert_eq!(devices, ["a"], "b lacks its nominal voltage, and c is not in the scope");
}

#[test]
fn a_reading_far_ahead_of_its_arrival_is_ignored() {
    let mut replay = Replay::new(live(1, json!({})).compiled, 60 * SECOND);
    let ahead =
        |by: Micros| Reading { ts: SECOND + by, received: SECOND, ..reading("a", 0, 260.0) };
    replay.rows(&rows(&[ahead(60 * SECOND + 1)]), &everywhere).expect("evaluated");
    replay.end_window();
    assert_eq!((replay.readings(), replay.episodes()), (0, 0));
    replay.rows(&rows(&[ahead(60 * SECOND)]), &everywhere).expect("evaluated");
    replay.end_window();
    assert_eq!((replay.readings(), replay.episodes()), (1, 1));
}

#[test]
fn a_device_that_sent_nothing_with_the_condition_has_no_episodes() {
    let mut replay = replay(json!({}));
    replay.rows(&rows(&[reading("a", 0, 230.0)]), &everywhere).expect("evaluated");
    replay.end_window();
    let all: Vec<_> =
        replay.found().map(|(device, found)| (device.to_string(), found.len())).collect();
    assert_eq!(all, [("a".to_owned(), 0)], "it was evaluated all the same");
}

#[test]
fn rows_without_a_device_or_time_are_an_error_and_so_is_a_failing_rule() {
    let batch = rows(&[reading("a", 0, 260.0)]);
    let cut = batch.project(&[0, 3]).expect("two columns");
    let error = replay(json!({})).rows(&cut, &everywhere).expect_err("no ts");
    assert!(error.to_string().contains("without device_id, ts or received_at"), "{error}");
    let fails = json!({"when": "1 / (try_cast(voltage_l1_v as int) - 260) > 0"});
    assert!(replay(fails).rows(&batch, &everywhere).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_backtest_finds_what_the_stream_has_found(
        all in prop::collection::vec(
            (prop::bool::ANY, prop::sample::select(vec![10, 10, 960, 5000]), 225..270_i64), 1..60),
        cuts in prop::collection::btree_set(0..60_usize, 0..4),
        (hold, clear, flaps) in (0..40_u32, 0..40_u32, 0..4_u32),
    ) {
        let fields = json!({
            "for_seconds": hold, "clear_for_seconds": clear, "clear_when": "voltage_l1_v < 245",
            "flap_count": flaps, "flap_seconds": 200,
        });
        let (mut second, mut readings) = (0, Vec::new());
        for (of, apart, volts) in all {
            second += apart;
            readings.push(reading(if of { "a" } else { "b" }, second, volts as f64));
        }
        let mut evaluator = Evaluator::default();
        let set = set_of(std::slice::from_ref(&fields)).ahead(NO_LIMIT);
        let site = everywhere("a").expect("a site");
        let evaluated = evaluator
            .evaluate(&set, &rows(&readings), &|_| None, &|_| Arc::clone(&site))
            .expect("rows");
        let mut wanted: Vec<(String, i64, i64, Option<i64>)> = Vec::new();
        for stepped in &evaluated.steps {
            let device = stepped.device_id.to_string();
            match stepped.step {
                Step::Raised(open) => {
                    wanted.push((device, open.started.ts / SECOND, open.raised.ts / SECOND, None));
                }
                Step::Cleared { end, .. } => {
                    let last = wanted.iter_mut().rev().find(|(of, ..)| *of == device);
                    last.expect("it was raised").3 = Some(end.ts / SECOND);
                }
            }
        }
        wanted.sort();
        let (mut replay, mut from) = (replay(fields), 0);
        for until in cuts.into_iter().filter(|at| *at < readings.len()).chain([readings.len()]) {
            let window: Vec<Reading> = readings[from..until].iter().rev().copied().collect();
            replay.rows(&rows(&window), &everywhere).expect("evaluated");
            replay.end_window();
            from = until;
        }
        prop_assert_eq!(found(&replay), wanted);
    }
}
