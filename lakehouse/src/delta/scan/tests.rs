use datafusion::prelude::{col, lit};

use super::*;

#[test]
fn one_device_is_what_an_equality_requires() {
    let is_a = || col("device_id").eq(lit("a"));
    let later = || col("ts").gt(lit(5_i64));
    let one = |filters: &[Expr]| one_device(filters).map(str::to_owned);
    assert_eq!(one(&[is_a()]).as_deref(), Some("a"));
    assert_eq!(one(&[lit("a").eq(col("device_id"))]).as_deref(), Some("a"));
    assert_eq!(one(&[later(), later().and(is_a())]).as_deref(), Some("a"));
}

#[test]
fn other_conditions_on_the_device_are_no_equality() {
    let is = |id: &str| col("device_id").eq(lit(id));
    for filter in [
        is("a").or(is("b")),
        col("device_id").not_eq(lit("a")),
        col("device_id").gt_eq(lit("a")),
        col("device_id").in_list(vec![lit("a")], true),
        Expr::Not(Box::new(is("a"))),
        col("source").eq(lit("a")),
        col("device_id").eq(col("source")),
        col("device_id").eq(lit(ScalarValue::Utf8(None))),
    ] {
        assert_eq!(one_device(std::slice::from_ref(&filter)), None, "{filter}");
    }
    assert_eq!(one_device(&[]), None);
}

#[test]
fn filters_are_pushed_down_if_one_of_them_selects_devices() {
    assert!(selects_devices(&[col("device_id").in_list(vec![lit("a")], false)]));
    assert!(selects_devices(&[col("ts").gt(lit(1_i64)).and(col("device_id").gt(lit("a")))]));
    assert!(!selects_devices(&[col("ts").gt(lit(1_i64)), col("frequency_hz").lt(lit(49.8))]));
    assert!(!selects_devices(&[]));
}

#[test]
fn a_filter_that_changes_with_every_call_prunes_nothing() {
    let session = datafusion::prelude::SessionContext::new();
    let schema = table_schema(acuvim_tables::Table::Telemetry);
    let volatile = datafusion::functions::string::expr_fn::uuid().eq(lit("a"));
    let predicate = |filters: &[Expr]| {
        predicate(&session.state(), filters, schema.table_schema()).expect("a predicate")
    };
    assert!(predicate(std::slice::from_ref(&volatile)).is_none());
    let kept = predicate(&[volatile, col("device_id").eq(lit("a"))]).expect("the other one");
    assert!(!kept.to_string().contains("uuid"), "{kept}");
}
