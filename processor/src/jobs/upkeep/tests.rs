use super::*;

#[test]
fn retention_counts_from_today() {
    assert_eq!(first_kept_day(20_000, Some(20_000), 365), 19_635);
    assert_eq!(first_kept_day(20_000, Some(19_999), 0), 20_000);
    assert_eq!(first_kept_day(20_000, None, 365), 19_635, "an empty table");
}

#[test]
fn a_clock_that_is_years_ahead_empties_no_table() {
    assert_eq!(first_kept_day(30_000, Some(20_000), 365), 20_007 - 365);
    assert_eq!(first_kept_day(20_007, Some(20_000), 365), 20_007 - 365, "it is trusted for a week");
}

#[test]
fn rows_of_the_future_do_not_move_retention() {
    assert_eq!(first_kept_day(20_000, Some(25_000), 365), 19_635);
}

#[test]
fn a_table_that_keeps_everything_keeps_it() {
    assert_eq!(first_kept_day(20_000, Some(20_000), i32::MAX), 20_000 - i32::MAX);
    assert_eq!(first_kept_day(-5, Some(i32::MAX), i32::MAX), i32::MIN, "it does not overflow");
}
