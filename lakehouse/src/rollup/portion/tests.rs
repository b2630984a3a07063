use super::*;
use crate::{
    rollup::{QUARTER, keys::add_key},
    testing::{Reading, T0, reading, telemetry},
};

/// The portion of some buckets, each a device and a number of quarters after [`T0`], with readings.
fn portion(buckets: &[(&str, i64)], readings: &[Reading<'_>]) -> Portion {
    let mut keys = BucketKeys::new();
    buckets.iter().for_each(|(device, n)| add_key(&mut keys, device, T0 + n * QUARTER));
    let mut portion = Portion::new(&keys);
    portion.add(&telemetry(0, 0, readings)).expect("rows");
    portion
}

fn samples(portion: &Portion) -> Vec<i32> {
    portion.buckets.iter().map(|bucket| bucket.samples).collect()
}

fn index_of(name: &str) -> usize {
    READINGS.iter().position(|reading| reading.name == name).expect(name)
}

#[test]
fn a_reading_at_the_edge_belongs_to_the_later_quarter() {
    let readings = [
        reading("a", T0 - 1),
        reading("a", T0),
        reading("a", T0 + QUARTER - 1),
        reading("a", T0 + QUARTER),
    ];
    assert_eq!(samples(&portion(&[("a", 0)], &readings)), [2]);
    assert_eq!(samples(&portion(&[("a", -1), ("a", 0), ("a", 1)], &readings)), [1, 2, 1]);
}

#[test]
fn readings_of_other_buckets_and_devices_are_ignored() {
    let readings = [reading("b", T0), reading("a", T0 + 5 * QUARTER), reading("c", T0)];
    assert_eq!(samples(&portion(&[("a", 0), ("c", 1)], &readings)), [0, 0]);
    assert_eq!(samples(&portion(&[], &readings)), [0_i32; 0]);
}

#[test]
fn rows_may_come_in_any_order_and_in_several_batches() {
    let readings = [
        reading("b", T0),
        reading("a", T0 + QUARTER),
        reading("b", T0 + 1),
        reading("a", T0),
        reading("a", T0 + QUARTER + 1),
    ];
    let mut all = portion(&[("a", 0), ("a", 1), ("b", 0)], &readings);
    assert_eq!(samples(&all), [1, 2, 2]);
    all.add(&telemetry(1, 0, &readings[..2])).expect("rows");
    assert_eq!(samples(&all), [1, 3, 3]);
}

#[test]
fn values_are_summed_up_with_their_extremes() {
    let volts = |ts, volts| Reading { volts, ..reading("a", ts) };
    let readings = [volts(T0, 230.0), volts(T0 + 1, 229.5), volts(T0 + 2, 231.25)];
    let portion = portion(&[("a", 0)], &readings);
    let cell = portion.buckets[0].cells[index_of("voltage_l1_v")];
    assert_eq!((cell.count, cell.min, cell.max), (3, Some(22_950), Some(23_125)));
    assert!((cell.sum - 69_075.0).abs() < 1e-9);
    let none = portion.buckets[0].cells[index_of("voltage_l2_v")];
    assert_eq!((none.count, none.min, none.max), (0, None, None), "it was not read");
}

#[test]
fn counters_are_counted_and_their_values_kept_for_later() {
    let energy = |ts, energy| Reading { energy, ..reading("a", ts) };
    let readings = [energy(T0 + 1, Some(1.5)), energy(T0, None), energy(T0 + 2, Some(2.25))];
    let portion = portion(&[("a", 0)], &readings);
    let cell = portion.buckets[0].cells[index_of("energy_import_kwh")];
    assert_eq!((cell.count, cell.min, cell.delta), (2, None, None));
    let values: Vec<_> = portion.counters[0].iter().map(|of| (of.ts - T0, of.values[0])).collect();
    assert_eq!(values, [(1, Some(150)), (0, None), (2, Some(225))]);
    let first = [true, false, false, false, false, false, false, false, false];
    assert!(portion.reads_any("a", &first));
    assert!(!portion.reads_any("a", &first.map(|some| !some)), "the others were not read");
    assert!(!portion.reads_any("b", &first));
}
