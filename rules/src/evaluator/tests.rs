use std::{collections::BTreeMap, sync::LazyLock};

use acuvim_wire::time::SECOND;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    cadence::LONGEST_GAP,
    episode::Step,
    testing::{Reading, live, reading, rows, set_of},
};

/// An evaluator as the stream uses it: with the newest reading of each device before the batch.
struct Stream {
    set: RuleSet,
    site: Arc<Site>,
    evaluator: Evaluator,
    /// The times of the readings that were evaluated, by device.
    stored: BTreeMap<&'static str, Vec<Micros>>,
}

impl Stream {
    fn new(set: RuleSet) -> Self {
        let site = Site { nominal_voltage_v: Some(230.0), ..Site::default() };
        let (evaluator, stored) = (Evaluator::default(), BTreeMap::new());
        Self { set, site: Arc::new(site), evaluator, stored }
    }

    fn newest(&self, device: &str) -> Option<Micros> {
        self.stored.get(device).and_then(|times| times.last().copied())
    }

    fn feed(&mut self, readings: &[Reading]) -> Evaluation {
        let batch = rows(readings);
        let wanted = self.evaluator.wants(&self.set, &batch, &|d| self.newest(d)).expect("rows");
        for (device, first) in wanted {
            let times = self.stored.get(&*device).expect("it has readings");
            assert_eq!(times.last(), Some(&first), "the newest reading");
            self.evaluator.recall(&device, Recent::of(times.iter().rev().take(6).rev().copied()));
        }
        let newest = self.stored.iter().filter_map(|(d, times)| Some((*d, *times.last()?)));
        let newest: BTreeMap<&str, Micros> = newest.collect();
        let evaluated = self
            .evaluator
            .evaluate(&self.set, &batch, &|d| newest.get(d).copied(), &|_| Arc::clone(&self.site))
            .expect("rows");
        for reading in readings.iter().filter(|r| r.ts <= r.received + 60 * SECOND) {
            let times = self.stored.entry(reading.device).or_default();
            if times.last().is_none_or(|last| reading.ts > *last) {
                times.push(reading.ts);
            }
        }
        evaluated
    }

    /// A new process, which has what control has stored.
    fn restart(&mut self) {
        let before = std::mem::take(&mut self.evaluator);
        for device in self.stored.keys() {
            let states = serde_json::to_string(&before.states(device)).expect("json");
            self.evaluator.load(device, serde_json::from_str(&states).expect("json"));
        }
    }
}

type Short = (String, u128, char, i64, i64);

/// The steps as device, rule, kind, beginning or end, and the reading that decided it.
fn steps(evaluation: &Evaluation) -> Vec<Short> {
    let short = |stepped: &Stepped| {
        let (kind, at, by) = match stepped.step {
            Step::Raised(open) => ('R', open.started.ts, open.raised.ts),
            Step::Cleared { end, confirmed, .. } => ('C', end.ts, confirmed.ts),
        };
        let device = stepped.device_id.to_string();
        (device, stepped.rule_id.as_u128(), kind, at / SECOND, by / SECOND)
    };
    evaluation.steps.iter().map(short).collect()
}

fn step(device: &str, kind: char, at: i64, by: i64) -> Short {
    (device.to_owned(), 1, kind, at, by)
}

#[test]
fn each_device_of_a_batch_has_a_state_of_its_own() {
    let mut stream = Stream::new(set_of(&[json!({"for_seconds": 20})]));
    let found = stream.feed(&[
        reading("a", 0, 260.0),
        reading("b", 0, 230.0),
        reading("a", 10, 260.0),
        reading("b", 10, 260.0),
        reading("a", 20, 260.0),
        reading("b", 20, 260.0),
    ]);
    assert_eq!(steps(&found), [step("a", 'R', 0, 20)]);
    assert_eq!(found.changed.len(), 2, "b is pending");
    let found = stream.feed(&[reading("b", 30, 260.0), reading("a", 30, 230.0)]);
    assert_eq!(steps(&found), [step("b", 'R', 10, 30), step("a", 'C', 30, 30)]);
}

#[test]
fn a_rule_is_raised_at_its_time_and_not_a_microsecond_earlier() {
    let mut stream = Stream::new(set_of(&[json!({"for_seconds": 20})]));
    let begun = reading("a", 0, 260.0);
    let early = Reading { ts: 20 * SECOND - 1, ..reading("a", 20, 260.0) };
    assert_eq!(steps(&stream.feed(&[begun, early])), []);
    let found = stream.feed(&[reading("a", 20, 260.0)]);
    assert_eq!(steps(&found), [step("a", 'R', 0, 20)]);
}

#[test]
fn a_reading_that_is_not_newer_is_late_and_changes_no_state() {
    let mut stream = Stream::new(set_of(&[json!({})]));
    stream.feed(&[reading("a", 100, 230.0)]);
    let found =
        stream.feed(&[reading("a", 90, 260.0), reading("a", 100, 260.0), reading("a", 95, 260.0)]);
    assert_eq!(steps(&found), []);
    assert!(found.changed.is_empty());
    assert_eq!(found.late.get("a"), Some(&(90 * SECOND)), "the earliest of them");
    let found = stream.feed(&[reading("a", 101, 260.0), reading("a", 99, 230.0)]);
    assert_eq!(steps(&found), [step("a", 'R', 101, 101)]);
    assert_eq!(found.late.get("a"), Some(&(99 * SECOND)), "late within the batch");
}

#[test]
fn a_reading_far_ahead_of_its_arrival_neither_counts_nor_makes_others_late() {
    let mut stream = Stream::new(set_of(&[json!({})]).ahead(60 * SECOND));
    let ahead = |by: Micros| Reading { received: 10 * SECOND, ..reading("a", 10, 260.0) }.at(by);
    let found = stream.feed(&[ahead(60 * SECOND + 1), reading("a", 11, 230.0)]);
    assert_eq!(steps(&found), []);
    assert!(found.late.is_empty());
    let found = stream.feed(&[ahead(60 * SECOND)]);
    assert_eq!(steps(&found), [step("a", 'R', 70, 70)], "so far a clock may be ahead");
}

impl Reading {
    /// The same reading, taken this long after its arrival.
    fn at(self, after: Micros) -> Self {
        Self { ts: self.received + after, ..self }
    }
}

#[test]
fn a_rule_evaluates_no_reading_that_arrived_before_it_was_created() {
    let mut rule = live(1, json!({}));
    rule.since = 50 * SECOND;
    let mut stream = Stream::new(RuleSet::new(1, vec![rule]));
    let at = |second: i64, received: Micros| Reading { received, ..reading("a", second, 260.0) };
    let found = stream.feed(&[at(10, 50 * SECOND - 1)]);
    assert_eq!(steps(&found), []);
    let found = stream.feed(&[at(20, 50 * SECOND)]);
    assert_eq!(steps(&found), [step("a", 'R', 20, 20)], "the time of arrival counts");
}

#[test]
fn a_repair_leaves_the_time_before_the_last_change_of_a_rule_alone() {
    let mut rule = live(1, json!({}));
    rule.edited = Some(20 * SECOND);
    let set = RuleSet::new(1, vec![rule]);
    let readings = [reading("a", 10, 260.0), reading("a", 19, 230.0), reading("a", 20, 260.0)];
    let found = Stream::new(set.clone()).feed(&readings);
    assert_eq!(steps(&found).len(), 3, "the stream evaluates all of them");
    let found = Stream::new(set.for_repair()).feed(&readings);
    assert_eq!(steps(&found), [step("a", 'R', 20, 20)]);
}

#[test]
fn a_rule_is_only_for_the_devices_of_its_scope() {
    let scoped = json!({"scope": {"device_ids": ["a"], "tags": ["roof"]}});
    let mut stream = Stream::new(set_of(&[scoped]));
    let found = stream.feed(&[reading("a", 0, 260.0), reading("b", 0, 260.0)]);
    assert_eq!(steps(&found), [step("a", 'R', 0, 0)]);
    // A changed property of a device has effect with the next revision of the rules.
    let roof = Site { tags: vec!["roof".into()], ..Site::default() };
    stream.site = Arc::new(roof);
    stream.set = stream.set.clone().revised(2);
    let found = stream.feed(&[reading("b", 10, 260.0)]);
    assert_eq!(steps(&found), [step("b", 'R', 10, 10)]);
}

#[test]
fn an_episode_stays_open_while_its_device_is_not_in_the_scope() {
    let mut stream = Stream::new(set_of(&[json!({"scope": {"tags": ["roof"]}})]));
    let roof = Arc::new(Site { tags: vec!["roof".into()], ..Site::default() });
    stream.site = Arc::clone(&roof);
    assert_eq!(steps(&stream.feed(&[reading("a", 0, 260.0)])).len(), 1);
    stream.site = Arc::default();
    stream.set = stream.set.clone().revised(2);
    assert_eq!(steps(&stream.feed(&[reading("a", 10, 230.0)])), []);
    stream.site = roof;
    stream.set = stream.set.clone().revised(3);
    assert_eq!(steps(&stream.feed(&[reading("a", 20, 230.0)])), [step("a", 'C', 20, 20)]);
}

#[test]
fn a_device_without_the_nominal_voltage_that_a_rule_needs_is_not_evaluated_by_it() {
    let rules = [json!({"when": "voltage_l1_v > 1.1 * nominal_voltage_v"}), json!({"name": "b"})];
    let mut stream = Stream::new(set_of(&rules));
    stream.site = Arc::default();
    let found = stream.feed(&[reading("a", 0, 260.0)]);
    let rules: Vec<u128> = steps(&found).into_iter().map(|(_, rule, ..)| rule).collect();
    assert_eq!(rules, [2]);
    stream.site = Arc::new(Site { nominal_voltage_v: Some(230.0), ..Site::default() });
    stream.set = stream.set.clone().revised(2);
    let found = stream.feed(&[reading("a", 10, 260.0)]);
    assert_eq!(steps(&found), [step("a", 'R', 10, 10)]);
    let limit = found.steps.first().and_then(|s| s.threshold).expect("a limit");
    assert!((limit - 253.0).abs() < 1e-9, "{limit}");
}

#[test]
fn a_rule_that_fails_does_not_keep_the_others_from_being_evaluated() {
    // Integers are divided by zero, which is an error and not infinity.
    let fails = json!({"name": "f", "when": "1 / (try_cast(voltage_l1_v as int) - 260) > 0"});
    let mut stream = Stream::new(set_of(&[fails, json!({})]));
    let found = stream.feed(&[reading("a", 0, 260.0)]);
    assert_eq!(found.steps.len(), 1);
    assert_eq!(found.steps.first().map(|s| s.rule_id.as_u128()), Some(2));
    let failed: Vec<u128> = found.failed.iter().map(|(rule, _)| rule.as_u128()).collect();
    assert_eq!(failed, [1]);
    assert!(found.failed.iter().all(|(_, why)| why.contains("zero")), "{:?}", found.failed);
}

#[test]
fn an_episode_that_is_learned_of_late_is_backfilled() {
    let late = |by: Micros| {
        let mut stream = Stream::new(set_of(&[json!({})]));
        let one = reading("a", 1000, 260.0);
        let found = stream.feed(&[Reading { received: one.ts + by, ..one }]);
        found.steps.first().map(|stepped| stepped.backfilled)
    };
    assert_eq!(late(BACKFILLED_AFTER), Some(false));
    assert_eq!(late(BACKFILLED_AFTER + 1), Some(true));
}

#[test]
fn the_id_of_an_alert_depends_on_device_rule_and_beginning_alone() {
    let id = |device: &'static str, rule: u128, second: i64, volts: f64| {
        let mut stream = Stream::new(RuleSet::new(1, vec![live(rule, json!({}))]));
        match stream.feed(&[reading(device, second, volts)]).steps.first().map(|s| s.step) {
            Some(Step::Raised(open)) => open.id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(id("a", 1, 0, 260.0), id("a", 1, 0, 270.0));
    assert_ne!(id("a", 1, 0, 260.0), id("b", 1, 0, 260.0));
    assert_ne!(id("a", 1, 0, 260.0), id("a", 2, 0, 260.0));
    assert_ne!(id("a", 1, 0, 260.0), id("a", 1, 1, 260.0));
}

#[test]
fn a_message_says_that_a_condition_flaps_and_an_end_has_none() {
    let flaps =
        json!({"flap_count": 2, "flap_seconds": 100, "message": "{value} over {threshold}"});
    let mut stream = Stream::new(set_of(&[flaps]));
    let volts = [260.0, 230.0, 261.0, 230.0];
    let readings: Vec<_> = (0..).zip(volts).map(|(n, volts)| reading("a", 10 * n, volts)).collect();
    let found = stream.feed(&readings);
    let messages: Vec<&str> = found.steps.iter().map(|s| s.message.as_str()).collect();
    let flapping =
        "261 over 250 (it flaps: 2 times within 100 s; open until it has ceased for as long)";
    assert_eq!(messages, ["260 over 250", "", flapping]);
}

#[test]
fn states_of_rules_that_are_gone_are_dropped() {
    let mut stream = Stream::new(set_of(&[json!({}), json!({"name": "b"})]));
    stream.feed(&[reading("a", 0, 260.0), reading("b", 0, 230.0)]);
    assert_eq!(stream.evaluator.states("a").len(), 2);
    let left = RuleSet::new(2, vec![live(2, json!({"name": "b"}))]);
    assert_eq!(stream.evaluator.retain(&left), [Arc::from("a")], "b had no state to drop");
    let states: Vec<u128> =
        stream.evaluator.states("a").iter().map(|(id, _)| id.as_u128()).collect();
    assert_eq!(states, [2]);
    assert!(stream.evaluator.retain(&left).is_empty());
}

#[test]
fn a_rule_that_is_switched_off_is_not_evaluated_and_a_shadow_rule_is() {
    let set = set_of(&[json!({"mode": "off"}), json!({"name": "b", "mode": "shadow"})]);
    let found = Stream::new(set).feed(&[reading("a", 0, 260.0)]);
    let rules: Vec<u128> = steps(&found).into_iter().map(|(_, rule, ..)| rule).collect();
    assert_eq!(rules, [2]);
}

#[test]
fn readings_that_were_evaluated_before_a_restart_are_only_remembered() {
    let mut stream = Stream::new(set_of(&[json!({"for_seconds": 60})]));
    let passed = rows(&(0..4).map(|n| reading("a", 3600 * n, 260.0)).collect::<Vec<_>>());
    let site = Arc::clone(&stream.site);
    stream
        .evaluator
        .pass_over(&stream.set, &passed, &|_| None, &|_| Arc::clone(&site))
        .expect("rows");
    assert!(stream.evaluator.states("a").is_empty());
    let recent = stream.evaluator.recent("a");
    assert_eq!((recent.newest(), recent.step()), (Some(10_800 * SECOND), Some(3600 * SECOND)));
}

#[test]
fn the_last_readings_are_asked_for_only_across_a_gap_that_a_rule_waits_for() {
    let set = set_of(&[json!({"for_seconds": 60})]);
    let newest = |_: &str| Some(0);
    let wanted = |evaluator: &Evaluator, second: i64| {
        let batch = rows(&[reading("a", second, 260.0)]);
        evaluator.wants(&set, &batch, &newest).expect("rows").len()
    };
    let mut evaluator = Evaluator::default();
    assert_eq!(wanted(&evaluator, 3600), 0, "no rule waits");
    let pending = State::Pending(acuvim_model::event::Mark {
        ts: 0,
        at: acuvim_wire::Identity { epoch: 0, partition: 0, offset: 0, item: 0 },
    });
    evaluator.load("a", vec![(Uuid::from_u128(1), pending)]);
    assert_eq!(wanted(&evaluator, 900), 0, "that is no gap for any device");
    assert_eq!(wanted(&evaluator, 901), 1);
    evaluator.recall("a", Recent::of((-5..=0).map(|n| n * 3600 * SECOND)));
    assert_eq!(wanted(&evaluator, 901), 0, "they are known");
    evaluator.recall("a", Recent::of((-6..0).map(|n| n * 3600 * SECOND)));
    assert_eq!(wanted(&evaluator, 901), 1, "others have been evaluated elsewhere since");
}

#[test]
fn rows_of_another_table_are_an_error() {
    let batch = rows(&[reading("a", 0, 260.0)]).project(&[0, 1]).expect("two columns");
    let found = Evaluator::default()
        .evaluate(&set_of(&[json!({})]), &batch, &|_| None, &|_| Arc::default());
    assert!(found.is_err_and(|error| error.to_string().contains("received_at")));
}

/// Rules that wait, flap, and have a gap of their own.
static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    set_of(&[
        json!({"for_seconds": 20, "clear_for_seconds": 10, "clear_when": "voltage_l1_v < 245"}),
        json!({"name": "at once", "flap_count": 3, "flap_seconds": 120}),
        json!({"name": "slow", "for_seconds": 1500, "clear_for_seconds": 1500, "flap_count": 0}),
        json!({"name": "own gap", "for_seconds": 60, "gap_seconds": 1000, "flap_count": 0}),
    ])
});

/// Readings of two devices, in order for each: seconds since the one before, and volts.
fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let volts = prop_oneof![
        2 => Just(Some(230.0)), 1 => Just(Some(248.0)), 3 => Just(Some(260.0)), 1 => Just(None)
    ];
    let apart = prop_oneof![
        6 => Just(10), 3 => Just(960), 1 => Just(3600), 1 => Just(LONGEST_GAP / SECOND + 10)
    ];
    prop::collection::vec((prop::bool::ANY, apart, volts), 1..40).prop_map(|all| {
        let mut second = [0, 0];
        let one = |(of, apart, volts): (bool, i64, Option<f64>)| {
            let (device, at) = if of { ("a", 0) } else { ("b", 1) };
            second[at] += apart;
            Reading { volts, ..reading(device, second[at], 0.0) }
        };
        all.into_iter().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn neither_batches_nor_restarts_between_them_change_what_is_found(
        readings in readings(),
        cuts in prop::collection::vec((0..40_usize, prop::bool::ANY), 0..6),
    ) {
        let mut whole = Stream::new(RULES.clone());
        let mut wanted = steps(&whole.feed(&readings));
        let (mut cut, mut found, mut from) = (Stream::new(RULES.clone()), Vec::new(), 0);
        let mut cuts: Vec<_> = cuts.into_iter().filter(|(at, _)| *at < readings.len()).collect();
        cuts.sort_unstable();
        for (until, restart) in cuts.into_iter().chain([(readings.len(), false)]) {
            found.extend(steps(&cut.feed(&readings[from..until])));
            from = until;
            if restart {
                cut.restart();
            }
        }
        wanted.sort();
        found.sort();
        prop_assert_eq!(wanted, found);
        for device in ["a", "b"] {
            let states = |stream: &Stream| {
                let mut states = stream.evaluator.states(device);
                states.sort_by_key(|(id, _)| *id);
                // The offset of a reading is its place in the batch.
                states.into_iter().map(|(id, state)| (id, kind(&state))).collect::<Vec<_>>()
            };
            prop_assert_eq!(states(&whole), states(&cut), "{}", device);
        }
    }
}

fn kind(state: &State) -> (char, Micros) {
    match state {
        State::Quiet => ('q', 0),
        State::Pending(since) | State::PendingAgain { since, .. } => ('p', since.ts),
        State::Open { episode, .. } => ('o', episode.started.ts),
        State::Rested(_) => ('r', 0),
    }
}
