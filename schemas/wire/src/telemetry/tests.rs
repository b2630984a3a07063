use super::*;

#[test]
fn a_reading_is_ahead_only_beyond_the_limit() {
    let limits = Limits::default();
    let arrival = 1_778_951_132 * SECOND;
    assert!(!limits.is_ahead(arrival + 10 * SECOND, arrival));
    assert!(limits.is_ahead(arrival + 10 * SECOND + 1, arrival));
    assert!(!limits.is_ahead(arrival - DAY, arrival));
    // No overflow at the end of time.
    assert!(!limits.is_ahead(Micros::MAX, Micros::MAX));
}
