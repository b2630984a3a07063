use acuvim_wire::time::Micros;
use datafusion::{
    common::DFSchema,
    logical_expr::Expr,
    physical_expr::expressions,
    prelude::{SessionContext, col, lit},
};
use object_store::path::Path;
use proptest::prelude::*;

use super::*;
use crate::{
    batch::timestamp,
    delta::{file_groups::table_schema, snapshot::Bounds},
};

const TODAY: i32 = 20_000;
const MIDNIGHT: Micros = 20_000 * DAY;

fn file(name: &str, date: i32, bounds: Bounds) -> File {
    File { date, bounds: Arc::new(bounds), ..File::named(name, 0) }
}

fn by(min: &str, max: &str) -> Option<MinMax<String>> {
    Some(MinMax { min: min.into(), max: max.into() })
}

/// The names of the files that a filter leaves.
fn left(table: Table, files: &[File], filter: Expr) -> Vec<String> {
    let schema = table_schema(table);
    let schema = schema.table_schema();
    let columns = DFSchema::try_from(Arc::clone(schema)).expect("schema");
    let filter = SessionContext::new().create_physical_expr(filter, &columns).expect("a filter");
    let left = prune(table, files.to_vec(), Some(&filter), schema).expect("prune");
    left.iter().map(|file| file.meta.location.to_string()).collect()
}

#[test]
fn without_a_filter_every_file_stays() {
    let files = vec![File::named("a", 0), File::named("b", 0)];
    let schema = table_schema(Table::Telemetry);
    let left = prune(Table::Telemetry, files, None, schema.table_schema()).expect("prune");
    assert_eq!(left.len(), 2);
}

#[test]
fn a_device_at_either_edge_of_a_files_range_is_in_it() {
    let files = [
        file("b to d", TODAY, Bounds { by: by("b", "d"), ..Bounds::default() }),
        file("unknown", TODAY, Bounds::default()),
    ];
    let of = |device: &str| left(Table::Telemetry, &files, col("device_id").eq(lit(device)));
    for device in ["b", "c", "d"] {
        assert_eq!(of(device), ["b to d", "unknown"], "{device}");
    }
    for device in ["a", "az", "d0", "e", ""] {
        assert_eq!(of(device), ["unknown"], "{device}");
    }
    let several = col("device_id").in_list(vec![lit("a"), lit("e")], false);
    assert_eq!(left(Table::Telemetry, &files, several), ["unknown"]);
}

#[test]
fn the_day_of_a_file_bounds_its_times_even_without_statistics() {
    let files = [file("today", TODAY, Bounds::default())];
    let from = |ts| left(Table::Telemetry, &files, col("ts").gt_eq(timestamp(ts)));
    let until = |ts| left(Table::Telemetry, &files, col("ts").lt(timestamp(ts)));
    assert_eq!(from(MIDNIGHT + DAY - 1), ["today"], "the last microsecond");
    assert_eq!(from(MIDNIGHT + DAY).len(), 0);
    assert_eq!(until(MIDNIGHT + 1), ["today"], "the first microsecond");
    assert_eq!(until(MIDNIGHT).len(), 0);
}

#[test]
fn statistics_narrow_the_times_of_a_file_and_never_widen_them_beyond_its_day() {
    let noon = MIDNIGHT + DAY / 2;
    let within = Bounds { time: Some(MinMax { min: noon, max: noon + 9 }), ..Bounds::default() };
    // A maximum that was cut to milliseconds and rounded up can lie in the next day.
    let wide = Bounds {
        time: Some(MinMax { min: MIDNIGHT - 5, max: MIDNIGHT + DAY + 998 }),
        ..Bounds::default()
    };
    let files = [file("noon", TODAY, within), file("wide", TODAY, wide)];
    let at = |ts| left(Table::Telemetry, &files, col("ts").eq(timestamp(ts)));
    assert_eq!(at(noon - 1), ["wide"]);
    assert_eq!(at(noon), ["noon", "wide"]);
    assert_eq!(at(noon + 9), ["noon", "wide"]);
    assert_eq!(at(noon + 10), ["wide"]);
    assert_eq!(at(MIDNIGHT - 1).len(), 0);
    assert_eq!(at(MIDNIGHT + DAY).len(), 0);
}

#[test]
fn days_before_1970_have_times_before_it() {
    let files = [file("the day before", -1, Bounds::default())];
    let at = |ts| left(Table::Telemetry, &files, col("ts").eq(timestamp(ts)));
    assert_eq!(at(-1), ["the day before"]);
    assert_eq!(at(-DAY), ["the day before"]);
    assert_eq!(at(0).len() + at(-DAY - 1).len(), 0);
}

#[test]
fn offsets_and_days_prune_and_other_columns_do_not() {
    let bounds = |min, max| Bounds { offset: Some(MinMax { min, max }), ..Bounds::default() };
    let files = [file("0 to 9", TODAY, bounds(0, 9)), file("10 on", TODAY + 1, bounds(10, 19))];
    let left = |filter| left(Table::Telemetry, &files, filter);
    assert_eq!(left(col("offset").gt_eq(lit(10_i64))), ["10 on"]);
    assert_eq!(left(col("offset").lt(lit(10_i64))), ["0 to 9"]);
    let day = |day| lit(ScalarValue::Date32(Some(day)));
    assert_eq!(left(col("date").eq(day(TODAY))), ["0 to 9"]);
    assert_eq!(left(col("date").gt(day(TODAY + 1))).len(), 0);
    assert_eq!(left(col("partition").eq(lit(7))).len(), 2, "its bounds are not known");
    assert_eq!(left(col("voltage_l1_v").is_null()).len(), 2);
}

#[test]
fn times_and_days_are_never_null_and_devices_may_be() {
    let files = [file("a", TODAY, Bounds { by: by("a", "a"), ..Bounds::default() })];
    let schema = table_schema(Table::DeadLetters);
    let schema = schema.table_schema();
    // Made here, because the engine itself would decide it by the schema.
    let left = |name: &str| {
        let is_null = expressions::is_null(expressions::col(name, schema).expect(name));
        let filter = Some(is_null.expect("a filter"));
        prune(Table::DeadLetters, files.to_vec(), filter.as_ref(), schema).expect("prune").len()
    };
    assert_eq!((left("received_at"), left("date")), (0, 0));
    assert_eq!(left("device_id"), 1);
}

#[test]
fn the_engine_takes_bounds_as_estimates() {
    let bounds =
        Bounds { by: by("a", "c"), time: Some(MinMax { min: 5, max: 9 }), ..Bounds::default() };
    let schema = table_schema(Table::Telemetry);
    let schema = schema.file_schema();
    let known = File { rows: Some(3), ..file("known", TODAY, bounds) };
    let found = statistics(Table::Telemetry, &known, schema);
    assert_eq!(found.num_rows, Precision::Exact(3));
    let column = |name: &str| &found.column_statistics[schema.index_of(name).expect("a column")];
    let text = |text: &str| Precision::Inexact(ScalarValue::Utf8(Some(text.into())));
    assert_eq!(column("device_id").min_value, text("a"));
    assert_eq!(column("device_id").max_value, text("c"));
    let time =
        |ts| Precision::Inexact(ScalarValue::TimestampMicrosecond(Some(ts), Some("UTC".into())));
    assert_eq!((&column("ts").min_value, &column("ts").max_value), (&time(5), &time(9)));
    assert_eq!(column("offset").min_value, Precision::Absent);
    let unknown = statistics(Table::Telemetry, &File::named("unknown", 0), schema);
    assert_eq!(unknown.num_rows, Precision::Absent);
    assert!(unknown.column_statistics.iter().all(|column| column.min_value == Precision::Absent));
}

/// Rows of a file as (device, microseconds into the day, offset).
fn rows() -> impl Strategy<Value = Vec<(u8, Micros, i64)>> {
    prop::collection::vec((b'a'..b'f', 0..DAY, 0..40_i64), 1..5)
}

/// The bounds that Delta states for rows, if it states any.
fn stated(rows: &[(u8, Micros, i64)], day: i32) -> Bounds {
    let start = i64::from(day) * DAY;
    let names = || rows.iter().map(|row| char::from(row.0).to_string());
    let times = || rows.iter().map(|row| start + row.1);
    let offsets = || rows.iter().map(|row| row.2);
    let cut = |ts: Micros| ts.div_euclid(1000) * 1000;
    Bounds {
        by: names().min().zip(names().max()).map(|(min, max)| MinMax { min, max }),
        time: times()
            .min()
            .zip(times().max())
            .map(|(min, max)| MinMax { min: cut(min), max: cut(max) + 999 }),
        offset: offsets().min().zip(offsets().max()).map(|(min, max)| MinMax { min, max }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_file_with_a_matching_row_always_stays(
        files in prop::collection::vec((rows(), 0..3_i32, any::<bool>()), 1..5),
        device in b'a'..b'f',
        (from, length) in (0..3 * DAY, 0..DAY),
        offset in 0..40_i64,
    ) {
        let named: Vec<File> = files.iter().enumerate().map(|(n, (rows, day, known))| {
            let bounds = if *known { stated(rows, TODAY + day) } else { Bounds::default() };
            file(&n.to_string(), TODAY + day, bounds)
        }).collect();
        let (from, to) = (MIDNIGHT + from, MIDNIGHT + from + length);
        let filter = col("device_id").eq(lit(char::from(device).to_string()))
            .and(col("ts").gt_eq(timestamp(from)))
            .and(col("ts").lt(timestamp(to)))
            .and(col("offset").lt_eq(lit(offset)));
        let left = left(Table::Telemetry, &named, filter);
        for (n, (rows, day, _)) in files.iter().enumerate() {
            let start = i64::from(TODAY + day) * DAY;
            let matches = rows.iter().any(|(name, ts, at)| {
                *name == device && (from..to).contains(&(start + ts)) && *at <= offset
            });
            prop_assert!(!matches || left.contains(&Path::from(n.to_string()).to_string()));
        }
    }
}
