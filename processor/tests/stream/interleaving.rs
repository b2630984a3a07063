//! Whatever the order, repetitions, delays and crashes, the result is the same telemetry, the same
//! episodes and a ledger that balances.

use acuvim_model::{AlertOrigin, RuleBody};
use acuvim_wire::{
    Kind, Micros,
    time::{DAY, SECOND, to_rfc3339},
};
use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Float64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;

use crate::fixture::{TestStream, quick};

/// 2026-11-20T00:00:00Z: when all readings arrive.
const NOW: Micros = 1_795_132_800 * SECOND;

fn rules() -> Vec<RuleBody> {
    let rule = |name: &str, when: &str, clear: Option<&str>, hold: u32, clear_for: u32| {
        serde_json::from_value(serde_json::json!({
            "name": name, "alert_type": name, "when": when, "clear_when": clear,
            "for_seconds": hold, "clear_for_seconds": clear_for,
        }))
        .expect("a rule")
    };
    vec![
        rule("high", "voltage_l1_v > 250", Some("voltage_l1_v < 245"), 20, 10),
        rule("odd", "frequency_hz <> 50", None, 0, 0),
        rule("long", "voltage_l1_v > 240 and frequency_hz >= 50", None, 40, 30),
    ]
}

/// A reading that a case sends.
#[derive(Debug, Clone, Copy)]
struct Reading {
    device: &'static str,
    ts: Micros,
    volts: u32,
    odd: bool,
}

impl Reading {
    fn message(&self) -> String {
        let hertz = if self.odd { 49 } else { 50 };
        format!(r#"{{"ts":"{}","v1":{},"f":{hertz}}}"#, to_rfc3339(self.ts), self.volts)
    }
}

/// What happens between two messages.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Nothing,
    Pause,
    Crash,
    Restart,
}

#[derive(Debug, Clone)]
struct Case {
    readings: Vec<Reading>,
    /// Indices of readings in the order of their arrival, some more than once.
    arrivals: Vec<usize>,
    cuts: Vec<(usize, Cut)>,
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let values = prop_oneof![3 => 225..244_u32, 1 => 244..252_u32, 3 => 251..260_u32];
    let quick = prop_oneof![8 => Just(10), 2 => Just(15), 1 => Just(1200), 1 => Just(43_200)];
    // Loggers that send about every quarter of an hour, for which only a longer gap is a gap.
    let slow = prop_oneof![8 => Just(960), 1 => Just(10), 1 => Just(3600), 1 => Just(43_200)];
    let odd = || prop::bool::weighted(0.15);
    let quick = prop::collection::vec((values.clone(), odd(), quick), 5..45);
    let slow = prop::collection::vec((values, odd(), slow), 5..45);
    (quick, slow, 0..30_i64).prop_map(|(a, b, days)| {
        let mut all = Vec::new();
        for (device, story) in [("a", a), ("b", b)] {
            // Readings arrive up to thirty days late, so they begin that far back.
            let mut ts = NOW - days * DAY - 3600 * SECOND;
            let length: i64 = story.iter().map(|(.., step)| step * SECOND).sum();
            ts -= length;
            for (volts, odd, step) in story {
                ts += step * SECOND;
                all.push(Reading { device, ts, volts, odd });
            }
        }
        all
    })
}

fn case() -> impl Strategy<Value = Case> {
    readings().prop_flat_map(|readings| {
        let count = readings.len();
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let again = prop::collection::vec((0..count, 0..count), 0..count / 2);
        // Half of the cases in order, as a fleet sends, and half in any order.
        let shuffled = prop::bool::ANY;
        let cut = prop_oneof![
            2 => Just(Cut::Pause), 3 => Just(Cut::Crash), 1 => Just(Cut::Restart),
            1 => Just(Cut::Nothing)
        ];
        let cuts = prop::collection::vec((0..2 * count, cut), 0..4);
        (Just(readings), order, again, shuffled, cuts).prop_map(
            |(readings, order, again, shuffled, cuts)| {
                let mut arrivals = match shuffled {
                    true => order,
                    false => (0..readings.len()).collect(),
                };
                for (index, reading) in again {
                    arrivals.insert(index, reading);
                }
                Case { readings, arrivals, cuts }
            },
        )
    })
}

type Episode = (String, String, Micros, Micros, Option<Micros>);

/// What has to be the same: readings without their arrival and identity, and episodes without the
/// mark of a repair.
fn outcome(stream: &TestStream) -> (Vec<(String, Micros, f64)>, Vec<Episode>) {
    let rows = stream.sql(
        "SELECT device_id, ts, CAST(voltage_l1_v AS DOUBLE) FROM telemetry ORDER BY device_id, ts",
    );
    let mut readings = Vec::new();
    for batch in &rows {
        let devices = batch.column(0).as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let volts = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..devices.len() {
            readings.push((devices.value(row).to_owned(), times.value(row), volts.value(row)));
        }
    }
    let episodes =
        stream.alerts().into_iter().filter(|alert| alert.origin == AlertOrigin::Rule).map(|a| {
            let ended = a.resolved_at.map(|at| at.timestamp_micros());
            let (begun, raised) = (a.created_at.timestamp_micros(), a.raised_at.timestamp_micros());
            (a.device_id.expect("a device"), a.alert_type, begun, raised, ended)
        });
    let mut episodes: Vec<Episode> = episodes.collect();
    episodes.sort();
    (readings, episodes)
}

fn play(stream: &mut TestStream, case: &Case) {
    for (step, index) in case.arrivals.iter().enumerate() {
        let reading = &case.readings[*index];
        let received_at = NOW + i64::try_from(step).expect("a step") * 1000;
        stream.append(&[(Kind::Telemetry, reading.device, reading.message(), received_at)]);
        for (_, cut) in case.cuts.iter().filter(|(at, _)| *at == step) {
            match cut {
                Cut::Nothing => {}
                Cut::Pause => std::thread::sleep(std::time::Duration::from_millis(200)),
                Cut::Crash => stream.crash(),
                Cut::Restart => stream.restart(),
            }
        }
    }
    stream.settle();
}

fn balances(stream: &TestStream, received: usize) {
    let sum = |column: &str| {
        stream.scalar(&format!(
            "SELECT coalesce(sum({column}), 0) FROM ledger WHERE device_id IS NULL"
        ))
    };
    stream.wait_for("the rows are flushed", async |_, lake| {
        let all = (0..crate::fixture::PARTITIONS).all(|p| lake.tail().rows(p) == 0);
        all.then_some(())
    });
    let total = i64::try_from(received).expect("a count");
    // Repetitions are counted and have no rows, so that the last counts may be flushed later.
    let begun = std::time::Instant::now();
    while sum("received") < total && begun.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(sum("received"), total);
    assert_eq!(sum("records"), total, "one record each, and none twice");
    assert_eq!(sum("stored") + sum("duplicates"), total);
    assert_eq!(sum("stored"), stream.scalar("SELECT count(*) FROM telemetry"));
    assert!(
        stream.alerts().iter().all(|a| a.origin != AlertOrigin::System),
        "{:?}",
        stream.alerts()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn the_order_of_arrival_does_not_matter(case in case()) {
        let in_order = Case {
            arrivals: (0..case.readings.len()).collect(),
            cuts: Vec::new(),
            readings: case.readings.clone(),
        };
        let mut plain = TestStream::new(quick(), &rules());
        play(&mut plain, &in_order);
        let mut cut = TestStream::new(quick(), &rules());
        play(&mut cut, &case);
        let (wanted, found) = (outcome(&plain), outcome(&cut));
        prop_assert_eq!(wanted.0, found.0, "telemetry");
        prop_assert_eq!(wanted.1, found.1, "episodes");
        balances(&plain, in_order.arrivals.len());
        balances(&cut, case.arrivals.len());
    }
}

/// The nightly run sets ACUVIM_CASES for more.
fn cases() -> u32 {
    std::env::var("ACUVIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}
