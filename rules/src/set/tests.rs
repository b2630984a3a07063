use acuvim_wire::time::SECOND;
use serde_json::json;

use super::*;
use crate::testing::{Reading, live, reading, rows, set_of};

#[test]
fn the_longest_times_are_those_of_rules_that_are_in_force() {
    let rules = [
        json!({"for_seconds": 60, "flap_count": 0}),
        json!({"name": "b", "clear_for_seconds": 90, "flap_count": 2, "flap_seconds": 30}),
        json!({"name": "c", "for_seconds": 9999, "mode": "off"}),
    ];
    let set = set_of(&rules);
    assert_eq!(set.rules().len(), 2);
    assert_eq!((set.longest_wait(), set.longest_memory()), (90 * SECOND, 30 * SECOND));
    let none = RuleSet::default();
    assert_eq!((none.longest_wait(), none.longest_memory()), (0, 0));
}

#[test]
fn a_set_needs_the_columns_of_all_of_its_rules() {
    let set = set_of(&[
        json!({"when": "voltage_l1_v > 1"}),
        json!({"when": "frequency_hz > 1", "message": "{current_avg_a}"}),
        json!({"when": "voltage_l2_v > 1", "mode": "off"}),
    ]);
    let mut columns = crate::Inputs::columns_of(set.needed());
    columns.sort_unstable();
    assert_eq!(columns, ["current_avg_a", "frequency_hz", "voltage_l1_v"]);
}

#[test]
fn a_reading_may_be_ahead_of_its_arrival_by_the_limit() {
    let ahead = |by: Micros| {
        let one = Reading { ts: 100 * SECOND + by, received: 100 * SECOND, ..reading("a", 0, 1.0) };
        let batch = rows(&[one]);
        let rows = Rows::of(&batch).expect("rows");
        RuleSet::default().ahead(60 * SECOND).is_of_now(&rows, 0)
    };
    assert!(ahead(60 * SECOND) && ahead(-1_000_000 * SECOND));
    assert!(!ahead(60 * SECOND + 1));
}

#[test]
fn only_a_repair_begins_at_the_last_change_of_a_rule() {
    let mut edited = live(1, json!({}));
    edited.edited = Some(500);
    let set = RuleSet::new(1, vec![edited, live(2, json!({"name": "b"}))]);
    let begin = |set: &RuleSet| set.rules().iter().map(|r| set.begin_of(r)).collect::<Vec<_>>();
    assert_eq!(begin(&set), [Micros::MIN, Micros::MIN]);
    assert_eq!(begin(&set.for_repair()), [500, Micros::MIN]);
    assert_eq!(set.for_repair().revision, set.revision);
}
