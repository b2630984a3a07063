use super::*;

/// Whether heartbeats ten seconds apart, as boot count and uptime in seconds, show two devices.
fn beats(all: &[(Option<u64>, u64)]) -> bool {
    let mut detector = DuplicateDetector::default();
    let mut found = false;
    for (n, (boot, uptime)) in (1..).zip(all) {
        detector.beat(n * 10 * SECOND, *boot, Some(uptime * 1000));
        let stored = serde_json::to_string(&detector).expect("json");
        detector = serde_json::from_str(&stored).expect("json");
        found |= detector.found(n * 10 * SECOND).is_some();
    }
    found
}

#[test]
fn two_boot_counts_that_take_turns_are_two_devices() {
    let turns: Vec<_> = (0..8).map(|n| (Some(if n % 2 == 0 { 17 } else { 4 }), n * 10)).collect();
    assert!(beats(&turns));
    assert!(!beats(turns.get(..4).expect("four")), "a counter may be lost once or twice");
    let loops: Vec<_> = (0..20).map(|n| (Some(n), 5)).collect();
    assert!(!beats(&loops), "a loop of restarts counts up");
}

#[test]
fn two_uptimes_that_take_turns_within_one_boot_are_two_devices() {
    let turn = |boot: Option<u64>| -> Vec<_> {
        (0..12).map(|n| (boot, if n % 2 == 0 { 50_000 } else { 10 } + n * 10)).collect()
    };
    assert!(beats(&turn(Some(1))));
    assert!(beats(&turn(None)));
    // A device that loses its boot count, and restarts again and again.
    let loops: Vec<_> = (0..30).map(|n| (Some(1), 10 * (n % 3 + 1))).collect();
    assert!(!beats(&loops));
}

#[test]
fn readings_of_two_series_are_those_of_two_devices() {
    let found = |all: &[(u64, u64)]| {
        let mut detector = DuplicateDetector::default();
        for (n, (boot, seq)) in (1..).zip(all) {
            detector.reading(n * SECOND, n * SECOND, Some(*boot), Some(*seq));
        }
        detector.found(60 * SECOND).is_some()
    };
    let boots: Vec<_> = (0..8).map(|n| (17 - n % 2, n)).collect();
    assert!(found(&boots));
    let numbers: Vec<_> = (0..12).map(|n| (1, if n % 2 == 0 { 9000 } else { 40 } + n)).collect();
    assert!(found(&numbers));
    let plain: Vec<_> = (0..50).map(|n| (1 + n / 10, n % 10)).collect();
    assert!(!found(&plain), "numbers begin anew with each boot");
    // Readings from an SD card come late, and are ignored.
    let mut detector = DuplicateDetector::default();
    for n in 1..20 {
        detector.reading(1000 * SECOND + n * SECOND, n * SECOND, Some(9), None);
        detector.reading(n * SECOND, n * SECOND, Some(3), None);
    }
    assert_eq!(detector.found(60 * SECOND), None);
}

#[test]
fn repeated_takeovers_are_reported_until_they_cease() {
    let mut detector = DuplicateDetector::default();
    for n in 1..10 {
        detector.taken_over(n * SECOND);
    }
    assert_eq!(detector.found(10 * SECOND), None);
    detector.taken_over(10 * SECOND);
    let why = detector.found(10 * SECOND).expect("they are too many");
    assert!(why.contains("two devices"), "{why}");
    assert_eq!(detector.found(700 * SECOND), None);
}

#[test]
fn so_many_jumps_within_an_hour_are_needed() {
    let mut detector = DuplicateDetector::default();
    let mut turn = |n: i64, minutes: i64| {
        let boot = if n % 2 == 0 { 9 } else { 4 };
        detector.beat(minutes * 60 * SECOND, Some(boot), None);
        detector.found(minutes * 60 * SECOND).is_some()
    };
    // Every other heartbeat jumps back: the first jump is the one at 10 minutes.
    let found: Vec<bool> = (0..6).map(|n| turn(n, 10 * n)).collect();
    assert_eq!(found, [false, false, false, false, false, true]);
    assert!(!turn(6, 70), "an hour after the first, only two are left");
}

#[test]
fn a_counter_that_falls_back_once_is_a_board_that_was_replaced() {
    let mut detector = DuplicateDetector::default();
    for (minute, boot) in [(0, 500), (1, 1), (2, 1), (3, 2), (4, 3)] {
        detector.beat(minute * 60 * SECOND, Some(boot), Some(60_000));
        assert_eq!(detector.found(minute * 60 * SECOND), None);
    }
}

#[test]
fn an_uptime_may_gain_a_minute_on_the_clock() {
    let found = |gain: u64| {
        let mut detector = DuplicateDetector::default();
        // Two series in turn, of which the higher one has gained more than the time that passed.
        for n in 1..12_i64 {
            let passed = u64::try_from(n * 10_000).expect("positive");
            let uptime = if n % 2 == 0 { passed + gain } else { passed };
            detector.beat(n * 10 * SECOND, Some(1), Some(uptime));
        }
        detector.found(120 * SECOND).is_some()
    };
    assert!(!found(60_000), "a clock that is adjusted does that");
    assert!(found(70_001));
}

#[test]
fn messages_without_numbers_show_nothing() {
    let mut detector = DuplicateDetector::default();
    for n in 1..50 {
        detector.beat(n * SECOND, None, None);
        detector.reading(n * SECOND, n * SECOND, None, None);
    }
    assert_eq!(detector.found(60 * SECOND), None);
    assert_eq!(detector, {
        let mut one = DuplicateDetector::default();
        one.beat(49 * SECOND, None, None);
        one.reading(49 * SECOND, 49 * SECOND, None, None);
        one
    });
}

#[test]
fn takeovers_count_for_ten_minutes() {
    let found = |apart: i64| {
        let mut detector = DuplicateDetector::default();
        (0..10).for_each(|n| detector.taken_over(n * apart));
        detector.found(9 * apart).is_some()
    };
    assert!(found(TEN_MINUTES / 9 - 1));
    assert!(!found(TEN_MINUTES / 9 + 1));
}

#[test]
fn no_more_times_are_kept_than_are_needed() {
    let mut detector = DuplicateDetector::default();
    for n in 0..1000 {
        detector.taken_over(n);
        detector.beat(n * SECOND, Some(u64::from(n % 2 == 0)), None);
        detector.found(n * SECOND);
    }
    assert!(detector.takeovers.len() <= TAKEOVERS && detector.jumps.len() <= JUMPS);
}
