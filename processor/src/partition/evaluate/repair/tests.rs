use std::sync::LazyLock;

use acuvim_model::{RuleBody, event::Mark};
use acuvim_rules::{Begun, LONGEST_GAP, LiveRule, Planner, certain_before};
use acuvim_wire::{Identity, time::SECOND};
use proptest::prelude::*;

use super::*;
use crate::partition::testing::rows;

const CALM: Duration = Duration::from_secs(3);

#[test]
fn a_repair_waits_until_late_readings_cease_but_not_for_ever() {
    let mut queue = RepairQueue::default();
    let begun = Instant::now();
    let after = |seconds: u64| begun + Duration::from_secs(seconds);
    assert!(queue.schedule("a".into(), 100, begun), "a new repair has to be stored");
    assert!(!queue.schedule("a".into(), 150, after(1)), "it covers this reading already");
    assert!(queue.schedule("a".into(), 50, after(2)), "it has to begin earlier");
    assert_eq!(queue.next(after(4), CALM), None);
    assert_eq!(queue.next(after(5), CALM), Some(("a".into(), 50)));
    queue.schedule("a".into(), 60, after(59));
    assert_eq!(queue.next(after(59), CALM), None);
    assert_eq!(queue.next(after(60), CALM), Some(("a".into(), 50)));
    queue.done("a");
    assert_eq!((queue.next(after(99), CALM), queue.len()), (None, 0));
}

#[test]
fn the_device_that_has_waited_longest_is_repaired_first() {
    let mut queue = RepairQueue::default();
    let begun = Instant::now();
    queue.schedule("b".into(), 1, begun);
    queue.schedule("a".into(), 1, begun + Duration::from_secs(1));
    let next = queue.next(begun + Duration::from_secs(9), CALM);
    assert_eq!(next.map(|(device, _)| device), Some("b".into()));
}

#[test]
fn a_repair_begins_before_what_a_rule_waits_for() {
    let id = Uuid::nil();
    assert_eq!(begin_of(100, &[]), 100);
    assert_eq!(begin_of(100, &[(id, State::Quiet)]), 100);
    let at = Identity { epoch: 0, partition: 0, offset: 0, item: 0 };
    let since = Mark { ts: 40, at };
    assert_eq!(begin_of(100, &[(id, State::Pending(since))]), 39);
}

#[test]
fn a_repair_that_is_widened_keeps_its_turn() {
    let mut queue = RepairQueue::default();
    let begun = Instant::now();
    let after = |seconds: u64| begun + Duration::from_secs(seconds);
    queue.schedule("a".into(), 100, begun);
    queue.schedule("b".into(), 100, after(1));
    queue.schedule("a".into(), 50, after(2));
    assert_eq!(queue.next(after(9), CALM), Some(("a".into(), 50)));
    queue.done("a");
    assert_eq!(queue.next(after(9), CALM), Some(("b".into(), 100)));
    queue.done("nobody");
    assert_eq!(queue.len(), 1);
}

#[test]
fn an_episode_that_is_clearing_or_pending_again_is_waited_for_too() {
    let at = Identity { epoch: 0, partition: 0, offset: 0, item: 0 };
    let mark = |ts: Micros| Mark { ts, at };
    let id = Uuid::nil();
    let episode = Open { id, started: mark(10), raised: mark(20), flapping: false };
    let open = |clearing| State::Open { episode, clearing, begun: Begun::default() };
    assert_eq!(begin_of(100, &[(id, open(Some(mark(40))))]), 39);
    assert_eq!(begin_of(100, &[(id, open(None))]), 100, "it is open since long before");
    let again = State::PendingAgain { since: mark(30), begun: Begun::default() };
    assert_eq!(begin_of(100, &[(id, open(Some(mark(40)))), (id, again)]), 29, "the earliest");
    assert_eq!(begin_of(5, &[(id, again)]), 5, "it begins earlier anyway");
}

/// A reading of the device: seconds, volts if they were measured, and whether it arrives late.
#[derive(Debug, Clone, Copy)]
struct Reading {
    second: i64,
    volts: Option<i64>,
    late: bool,
}

/// 2026-05-16T17:05:32Z
const BEGIN: Micros = 1_778_951_132 * SECOND;

/// Rows with their position in the slice as their offset.
fn rows_of(readings: &[Reading]) -> RecordBatch {
    let texts: Vec<(Micros, String)> = readings
        .iter()
        .map(|r| {
            let fields = match r.volts {
                Some(volts) => format!(r#""v1":{volts}"#),
                None => r#""f":50"#.to_owned(),
            };
            (BEGIN + r.second * SECOND, fields)
        })
        .collect();
    let sent: Vec<_> = texts.iter().map(|(ts, fields)| ("d", *ts, *ts, fields.as_str())).collect();
    rows(&sent)
}

/// Making a planner takes longer than compiling a rule.
static PLANNER: LazyLock<Planner> = LazyLock::new(|| Planner::new().expect("a planner"));

fn rules(fields: &[serde_json::Value]) -> ActiveRules {
    let rule = |(number, fields): (u128, &serde_json::Value)| {
        let mut whole = serde_json::json!({
            "name": number.to_string(), "alert_type": "high", "when": "voltage_l1_v > 250"
        });
        for (key, value) in fields.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        let body: RuleBody = serde_json::from_value(whole).expect("a rule");
        let compiled = PLANNER.compile(&body).expect("a rule");
        let id = Uuid::from_u128(number);
        LiveRule { id, version: 1, since: Micros::MIN, edited: None, body, compiled }
    };
    let mut rules = ActiveRules::default();
    rules.set = RuleSet::new(1, (1..).zip(fields).map(rule).collect());
    rules
}

/// The stream and control, as far as one device needs them.
struct Stream {
    rules: ActiveRules,
    judge: Evaluator,
    stored: Vec<Reading>,
    recorded: Vec<RecordedEpisode>,
    late: Option<Micros>,
}

impl Stream {
    fn new(rules: ActiveRules) -> Self {
        let (judge, stored, recorded) = (Evaluator::default(), Vec::new(), Vec::new());
        Self { rules, judge, stored, recorded, late: None }
    }

    /// Evaluates readings as the stream does, in one batch.
    fn receive(&mut self, readings: &[Reading]) {
        let newest = self.times().last().copied();
        let rules = &self.rules;
        let evaluated = self
            .judge
            .evaluate(&rules.set, &rows_of(readings), &|_| newest, &|id| rules.site(id))
            .expect("rows");
        for step in evaluated.steps {
            match step.step {
                Step::Raised(Open { id, started, raised, flapping }) => {
                    let marks = Marks { started, raised, ended: None, flapping };
                    let (rule_id, rule_version) = (step.rule_id, 1);
                    self.recorded.push(RecordedEpisode { id, rule_id, rule_version, marks });
                }
                Step::Cleared { episode, end, confirmed } => {
                    let open = self.recorded.iter_mut().find(|e| e.id == episode.id);
                    open.expect("it was raised").marks.ended = Some((end, confirmed));
                }
            }
        }
        self.late = evaluated.late.get("d").copied().into_iter().chain(self.late).min();
        self.stored.extend(readings);
        self.stored.sort_by_key(|r| r.second);
    }

    fn times(&self) -> Vec<Micros> {
        self.stored.iter().map(|r| BEGIN + r.second * SECOND).collect()
    }

    /// Repairs as `repairing` does, in windows of so many seconds.
    fn repair(&mut self, window: i64) -> usize {
        let Some(from) = self.late.take() else { return 0 };
        let (set, times) = (&self.rules.set, self.times());
        let before = |at: Micros| times.partition_point(|ts| *ts < at);
        let certain = certain_before(&times[..before(from)], from, set.longest_wait());
        let certain = certain.unwrap_or(times[0].min(from) - 1);
        let begin = begin_of(certain, &self.judge.states("d"));
        let behind = &times[..before(begin)];
        let near = behind.last().is_some_and(|last| begin - last <= LONGEST_GAP);
        let last = behind.iter().rev().take(6).rev().copied();
        let recent = if near { Recent::of(last) } else { Recent::default() };
        let remembered = begin - set.longest_memory();
        let mut repair = Repair::new("d".into(), begin, set, &self.lasting(remembered), recent);
        while repair.at <= *times.last().expect("a reading") {
            let until = repair.at + window * SECOND;
            let second = |at: Micros| {
                (at - BEGIN).div_euclid(SECOND) + i64::from((at - BEGIN) % SECOND != 0)
            };
            let range = second(repair.at)..second(until);
            let rows: Vec<Reading> =
                self.stored.iter().filter(|r| range.contains(&r.second)).copied().collect();
            repair.window(&self.rules, &rows_of(&rows), until).expect("rows");
        }
        let states = self.judge.states("d");
        let repaired = repair.finish(set, &self.lasting(begin), &states);
        let changes = repaired.alerts.len();
        repaired.alerts.into_iter().for_each(|change| self.apply(change));
        self.judge.load("d", repaired.states);
        self.judge.recall("d", repaired.recent);
        changes
    }

    /// The episodes that were not over at a time.
    fn lasting(&self, from: Micros) -> Vec<RecordedEpisode> {
        let lasts = |e: &&RecordedEpisode| {
            e.marks.ended.is_none_or(|(end, confirmed)| end.ts.max(confirmed.ts) >= from)
        };
        self.recorded.iter().filter(lasts).copied().collect()
    }

    fn apply(&mut self, change: AlertChange) {
        match change {
            AlertChange::Raise(alert) => {
                let (rule_id, rule_version) = alert.rule.expect("a rule");
                let marks = alert.marks.expect("readings");
                assert!(self.recorded.iter().all(|e| e.id != alert.id), "an id is used once");
                self.recorded.push(RecordedEpisode { id: alert.id, rule_id, rule_version, marks });
            }
            AlertChange::Amend { id, marks, .. } => {
                let known = self.recorded.iter_mut().find(|e| e.id == id);
                known.expect("it is recorded").marks = marks;
            }
            AlertChange::Withdraw { id } => self.recorded.retain(|e| e.id != id),
            AlertChange::Clear { .. } => panic!("a repair amends"),
        }
    }

    /// The episodes of each rule, by their times.
    fn episodes(&self) -> Vec<(u128, i64, i64, Option<i64>, bool)> {
        let second = |mark: Mark| (mark.ts - BEGIN) / SECOND;
        let one = |e: &RecordedEpisode| {
            let Marks { started, raised, ended, flapping } = e.marks;
            let ended = ended.map(|(end, _)| second(end));
            (e.rule_id.as_u128(), second(started), second(raised), ended, flapping)
        };
        let mut all: Vec<_> = self.recorded.iter().map(one).collect();
        all.sort();
        all
    }
}

fn volts(second: i64, volts: i64) -> Reading {
    Reading { second, volts: Some(volts), late: false }
}

#[test]
fn a_late_reading_splits_an_episode_and_the_first_part_keeps_its_alert() {
    let mut stream = Stream::new(rules(&[serde_json::json!({"flap_count": 0})]));
    stream.receive(&[volts(0, 260), volts(20, 260), volts(40, 230)]);
    let id = stream.recorded[0].id;
    stream.receive(&[volts(10, 230)]);
    assert_eq!(stream.episodes().len(), 1, "a late reading alone changes nothing");
    assert_eq!(stream.repair(86_400), 2);
    let wanted = [(1, 0, 0, Some(10), false), (1, 20, 20, Some(40), false)];
    assert_eq!(stream.episodes(), wanted);
    assert_eq!(
        stream.recorded.iter().find(|e| e.marks.started.ts == BEGIN).map(|e| e.id),
        Some(id)
    );
}

#[test]
fn an_open_episode_goes_on_under_the_id_that_it_keeps() {
    let mut stream = Stream::new(rules(&[serde_json::json!({"flap_count": 0})]));
    stream.receive(&[volts(10, 260)]);
    let id = stream.recorded[0].id;
    // It began earlier than was known, so that it is found under another id.
    stream.receive(&[volts(5, 260)]);
    assert_eq!(stream.repair(86_400), 1);
    assert_eq!((stream.recorded[0].id, stream.episodes()[0].1), (id, 5));
    let states = stream.judge.states("d");
    assert!(matches!(&states[..], [(_, State::Open { episode, .. })] if episode.id == id));
    stream.receive(&[volts(20, 230)]);
    assert_eq!(stream.episodes(), [(1, 5, 5, Some(20), false)], "its end finds its alert");
}

#[test]
fn an_episode_that_never_was_is_withdrawn() {
    let mut stream = Stream::new(rules(&[serde_json::json!({"for_seconds": 20})]));
    stream.receive(&[volts(0, 260), volts(20, 260)]);
    assert_eq!(stream.episodes().len(), 1);
    stream.receive(&[volts(10, 230)]);
    assert_eq!(stream.repair(86_400), 1);
    assert_eq!(stream.episodes(), []);
    let states = stream.judge.states("d");
    assert!(matches!(&states[..], [(_, State::Pending(_))]), "it waits again: {states:?}");
}

#[test]
fn what_an_older_version_of_a_rule_has_found_stays() {
    let mut stream = Stream::new(rules(&[serde_json::json!({"flap_count": 0})]));
    stream.receive(&[volts(0, 260), volts(20, 230), volts(100, 230)]);
    // The rule was changed afterwards, and would find nothing there.
    let mut changed = rules(&[serde_json::json!({"when": "voltage_l1_v > 300", "flap_count": 0})]);
    let mut rule = changed.set.rules()[0].clone();
    (rule.version, rule.edited) = (2, Some(BEGIN + 50 * SECOND));
    changed.set = RuleSet::new(2, vec![rule]);
    stream.rules = changed;
    stream.receive(&[volts(10, 260)]);
    assert_eq!(stream.repair(86_400), 0);
    assert_eq!(stream.episodes(), [(1, 0, 0, Some(20), false)]);
}

#[test]
fn a_rule_that_fails_in_a_repair_keeps_its_episodes_and_its_state() {
    let fails = serde_json::json!({"when": "1 / (try_cast(voltage_l1_v as int) - 7) > 0 or \
        voltage_l1_v > 250", "flap_count": 0});
    let mut stream = Stream::new(rules(&[fails, serde_json::json!({"flap_count": 0})]));
    stream.receive(&[volts(10, 260)]);
    let before = stream.judge.states("d");
    stream.receive(&[volts(0, 7)]);
    stream.receive(&[volts(5, 260)]);
    stream.repair(86_400);
    let failed = |states: &[(Uuid, State)]| {
        states.iter().find(|(id, _)| id.as_u128() == 1).map(|(_, state)| *state)
    };
    assert_eq!(failed(&stream.judge.states("d")), failed(&before));
    let begun: Vec<_> = stream.episodes().into_iter().map(|(rule, at, ..)| (rule, at)).collect();
    assert_eq!(begun, [(1, 10), (2, 5)]);
}

fn story() -> impl Strategy<Value = Vec<Reading>> {
    let volts = prop_oneof![
        3 => Just(Some(230)), 1 => Just(Some(247)), 4 => Just(Some(260)), 1 => Just(None)
    ];
    let apart = prop_oneof![
        6 => Just(10_i64), 2 => Just(300), 2 => Just(960), 1 => Just(3600), 1 => Just(400_000)
    ];
    prop::collection::vec((apart, volts, prop::bool::weighted(0.2)), 1..40).prop_map(|all| {
        let mut second = 0;
        let one = |(apart, volts, late)| {
            second += apart;
            Reading { second, volts, late }
        };
        all.into_iter().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_repair_finds_what_readings_in_their_order_would_have_given(
        story in story(),
        more in 0..10_usize,
        window in prop::sample::select(vec![40_000_i64, 86_400]),
        flaps in 0..4_u32,
    ) {
        let fields = [
            serde_json::json!({"for_seconds": 20, "clear_for_seconds": 10, "flap_count": flaps,
                "flap_seconds": 400, "clear_when": "voltage_l1_v < 245"}),
            serde_json::json!({"for_seconds": 900, "clear_for_seconds": 900, "flap_count": 0}),
            serde_json::json!({"gap_seconds": 1000, "for_seconds": 60, "flap_count": 0}),
            serde_json::json!({"flap_count": flaps, "flap_seconds": 2000}),
        ];
        let rules = rules(&fields);
        let mut wanted = Stream::new(rules.clone());
        wanted.receive(&story);
        // The last readings come after the repair, and find the states as they should be.
        let (before, after) = story.split_at(story.len().saturating_sub(more));
        let mut stream = Stream::new(rules);
        let (late, in_time): (Vec<Reading>, Vec<Reading>) = before.iter().copied().partition(|r| r.late);
        stream.receive(&in_time);
        stream.receive(&late.into_iter().rev().collect::<Vec<_>>());
        stream.repair(window);
        stream.receive(after);
        prop_assert_eq!(wanted.episodes(), stream.episodes());
        // A repair of what is right finds the same again.
        let first = stream.times()[story.len() / 2];
        stream.late = Some(first);
        stream.repair(window);
        prop_assert_eq!(wanted.episodes(), stream.episodes());
    }
}
