use super::*;

#[test]
fn every_reading_has_a_count_and_counters_a_delta() {
    let counted = columns().iter().filter(|c| c.stat == Stat::Count).count();
    assert_eq!(counted, READINGS.len());
    let names: Vec<&str> = columns().iter().map(|c| c.name.as_str()).collect();
    assert!(names.contains(&"voltage_l1_v_avg") && names.contains(&"energy_net_kwh_delta"));
    assert!(!names.contains(&"energy_import_kwh_avg"));
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
}

#[test]
fn each_reading_has_four_statistics_next_to_one_another() {
    assert_eq!(columns().len(), 4 * READINGS.len());
    for (reading, of_one) in columns().chunks(4).enumerate() {
        assert!(of_one.iter().all(|column| column.reading == reading));
        let name = READINGS[reading].name;
        let want = if READINGS[reading].is_counter() {
            ["count", "delta", "last", "suspect"]
        } else {
            ["count", "min", "max", "avg"]
        };
        let names: Vec<&str> = of_one.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, want.map(|stat| format!("{name}_{stat}")));
    }
}
