use acuvim_wire::time::parse_rfc3339;
use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Date32Type, Decimal128Type, Float64Type},
};

use super::*;
use crate::counter::Reading;

fn day(start: &str, zone: Tz) -> Option<i32> {
    local_day(parse_rfc3339(start).expect(start), zone)
}

#[test]
fn a_local_day_has_the_date_of_its_place() {
    let sixteenth = day("2026-05-16T00:00:00Z", Tz::UTC).expect("a day");
    assert_eq!(day("2026-05-15T22:00:00Z", Tz::Africa__Johannesburg), Some(sixteenth));
    assert_eq!(day("2026-05-16T04:00:00Z", Tz::America__New_York), Some(sixteenth));
    assert_eq!(day("2026-05-15T10:00:00Z", Tz::Pacific__Kiritimati), Some(sixteenth));
    // Cairo sets its clocks forward at midnight, so this day begins at one.
    let cairo = day("2026-04-23T22:00:00Z", Tz::Africa__Cairo);
    assert_eq!(cairo, day("2026-04-24T00:00:00Z", Tz::UTC));
    assert_eq!(day("1969-12-31T00:00:00Z", Tz::UTC), Some(-1));
}

fn bucket() -> Bucket {
    let mut bucket = Bucket { samples: 2, last_ts: Some(9), ..Bucket::default() };
    let index = |name: &str| READINGS.iter().position(|r| r.name == name).expect(name);
    let volts = &mut bucket.cells[index("voltage_l1_v")];
    (volts.count, volts.min, volts.max, volts.sum) = (2, Some(22_950), Some(23_050), 46_000.0);
    let energy = &mut bucket.cells[index("energy_import_kwh")];
    (energy.count, energy.delta) = (2, Some(150));
    energy.last = Some(Reading { ts: 9, value: 1234.56 });
    bucket
}

fn batch(table: Table, zones: Option<Vec<Tz>>) -> RecordBatch {
    let (bucket, key) = (bucket(), (Arc::<str>::from("a"), DAY - 2 * 3_600_000_000));
    let rows = BucketRows { table, keys: vec![&key], buckets: vec![&bucket], zones };
    rows.batch().expect("rows").expect("a bucket")
}

#[test]
fn a_bucket_is_a_row_in_the_units_of_its_readings() {
    let rows = batch(Table::Rollup15m, None);
    let column = |name: &str| rows.column_by_name(name).expect(name);
    let decimal = |name: &str| column(name).as_primitive::<Decimal128Type>().value(0);
    assert_eq!((decimal("voltage_l1_v_min"), decimal("voltage_l1_v_max")), (22_950, 23_050));
    let mean = column("voltage_l1_v_avg").as_primitive::<Float64Type>().value(0);
    assert!((mean - 230.0).abs() < 1e-9, "{mean}");
    assert_eq!(
        (decimal("energy_import_kwh_delta"), decimal("energy_import_kwh_last")),
        (150, 123_456)
    );
    for missing in ["voltage_l2_v_avg", "voltage_l2_v_min", "energy_export_kwh_delta"] {
        assert!(column(missing).is_null(0), "{missing}");
    }
}

#[test]
fn a_local_day_is_stored_under_the_utc_date_of_its_beginning() {
    let rows = batch(Table::RollupDaily, Some(vec![Tz::Africa__Johannesburg]));
    let date =
        |name: &str| rows.column_by_name(name).expect(name).as_primitive::<Date32Type>().value(0);
    assert_eq!((date("date"), date("day")), (0, 1));
    let zone = rows.column_by_name("time_zone").expect("a zone").as_string::<i32>();
    assert_eq!(zone.value(0), "Africa/Johannesburg");
}

#[test]
fn without_buckets_there_are_no_rows() {
    let none = BucketRows { table: Table::Rollup15m, keys: vec![], buckets: vec![], zones: None };
    assert!(none.batch().expect("rows").is_none());
}
