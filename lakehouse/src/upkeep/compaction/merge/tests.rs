use super::*;

#[test]
fn files_of_a_merge_have_a_margin_below_their_size() {
    // A thousand rows of 100 bytes, files of 10,000 bytes: a hundred rows less a fifth.
    assert_eq!(rows_per_file(Some(1000), 100_000, 10_000), 80);
    assert_eq!(rows_per_file(Some(1000), 100_000, 100_000), 800);
    assert_eq!(rows_per_file(Some(1), 100_000, 10), 1, "never none");
    assert_eq!(rows_per_file(Some(0), 0, 10_000), 1);
}

#[test]
fn rows_that_are_not_counted_are_taken_for_bytes() {
    assert_eq!(rows_per_file(None, 100_000, 10_000), 8000);
}

#[test]
fn large_numbers_do_not_overflow() {
    assert_eq!(rows_per_file(Some(1 << 40), 1, 1 << 40), usize::MAX);
    assert_eq!(rows_per_file(Some(1 << 40), 5 << 50, 5 << 50), (1 << 42) / 5);
}

#[test]
fn few_of_the_large_rows_are_held_at_a_time() {
    assert!(batch_size(Table::DeadLetters) < batch_size(Table::Telemetry));
}
