use super::*;
use std::collections::HashSet;

#[test]
fn every_key_means_one_column() {
    let keys: HashSet<_> = READINGS.iter().flat_map(|r| [r.name, r.short]).collect();
    assert_eq!(keys.len(), 2 * READINGS.len());
    for (i, r) in READINGS.iter().enumerate() {
        assert_eq!(target(r.short), Some(Target::Number(i)));
        assert_eq!(target(r.name), Some(Target::Number(i)));
    }
    assert_eq!(target("lt"), Some(Target::LoadType));
    assert_eq!(target("nonsense"), None);
}

#[test]
fn no_short_key_is_a_field_of_the_envelope() {
    for field in
        ["ts", "seq", "boot", "uptime_ms", "source", "connection", "device_id", "data", "batch"]
    {
        assert_eq!(target(field), None, "{field}");
    }
}

#[test]
fn the_columns_of_counters_are_wide_enough_for_the_roll_over() {
    for r in READINGS.iter().filter(|r| r.is_counter()) {
        assert!(10_u64.pow(u32::from(r.precision - r.scale)) > 100_000_000, "{}", r.name);
    }
}

/// A decimal of Delta has at most 38 digits, and what follows the point is part of them.
#[test]
fn columns_keep_ten_times_what_the_meter_resolves() {
    for r in &READINGS {
        assert!(r.precision <= 18 && r.scale >= 2 && r.scale < r.precision, "{}", r.name);
        assert!(!r.description.is_empty() && !r.description.ends_with('.'), "{}", r.name);
    }
}

#[test]
fn a_name_ends_with_its_unit() {
    for r in &READINGS {
        let unit = match r.unit {
            "" => continue,
            "%" => "pct".to_owned(),
            unit => unit.to_lowercase(),
        };
        assert_eq!(r.name.rsplit('_').next(), Some(unit.as_str()), "{}", r.name);
    }
}

#[test]
fn registers_rise_and_only_energies_are_counters() {
    let register = |r: &Reading| u32::from_str_radix(r.register, 16).expect("hex");
    assert!(READINGS.iter().map(register).is_sorted_by(|a, b| a < b));
    for r in &READINGS {
        assert_eq!(r.is_counter(), r.unit.ends_with('h'), "{}", r.name);
    }
}
