use super::*;

#[test]
fn each_table_keeps_its_own_days() {
    let retention = Retention {
        telemetry: 1,
        heartbeats: 2,
        alert_events: 3,
        device_events: 4,
        dead_letters: 5,
        ledger: 6,
        rollup_15m: 7,
        rollup_daily: 8,
    };
    let days: Vec<i32> = [
        Table::Telemetry,
        Table::Heartbeats,
        Table::AlertEvents,
        Table::DeviceEvents,
        Table::DeadLetters,
        Table::Ledger,
        Table::Rollup15m,
        Table::RollupDaily,
    ]
    .map(|table| retention.days(table))
    .to_vec();
    assert_eq!(days, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_is_derived_is_kept_for_longer_than_what_it_is_derived_from() {
    let default = Retention::default();
    assert!(default.rollup_15m >= default.telemetry && default.rollup_daily >= default.rollup_15m);
    assert!(default.ledger >= default.telemetry, "what is counted can still be compared");
}
