use super::*;

fn recent(seconds: &[i64]) -> Recent {
    Recent::of(seconds.iter().map(|s| s * SECOND))
}

#[test]
fn the_limit_follows_the_usual_step_of_the_device() {
    for (seconds, next, torn) in [
        // Every ten seconds: the limit is a quarter of an hour.
        (&[0, 10, 20, 30][..], 930, false),
        (&[0, 10, 20, 30], 931, true),
        // Every sixteen minutes, hour or day: the limit is four times that.
        (&[0, 960, 1920], 1920 + 960, false),
        (&[0, 3600, 7200, 10_800], 10_800 + 4 * 3600, false),
        (&[0, 3600, 7200, 10_800], 10_801 + 4 * 3600, true),
        (&[0, 86_400, 172_800], 259_200, false),
        (&[0, 86_400, 172_800, 259_200], 259_201 + 4 * 86_400, true),
        // An extra reading in between, and one outage, change nothing.
        (&[0, 960, 965, 1920], 2880, false),
        (&[0, 10, 20, 7220], 12_000, true),
        // One reading gives no step.
        (&[0], 901, true),
        (&[], 901, false),
    ] {
        assert_eq!(recent(seconds).is_torn(next * SECOND, None), torn, "{seconds:?} {next}");
    }
    assert!(recent(&[0, 960, 1920]).is_torn(2880 * SECOND, Some(GAP)), "a rule's own");
}

#[test]
fn a_repair_starts_where_nothing_before_it_still_waits() {
    let times = |step: i64, n: i64| (0..n).map(|i| i * step * SECOND).collect::<Vec<_>>();
    let begin = |times: &[Micros], from: i64, wait: i64| {
        certain_before(times, from * SECOND, wait * SECOND)
    };
    assert_eq!(begin(&times(10, 1000), 9991, 30), Some(9060 * SECOND - 1));
    // An hourly logger: a step and the wait back, and that reading itself.
    assert_eq!(begin(&times(3600, 100), 356_401, 60), Some((356_400 - 7200) * SECOND - 1));
    // Torn there for certain.
    assert_eq!(begin(&[0, 500_000 * SECOND], 500_010, 60), Some(500_000 * SECOND - 1));
    assert_eq!(begin(&[500_000 * SECOND], 500_010, 60), None);
}

#[test]
fn a_device_without_readings_has_no_gap_and_no_step() {
    let none = Recent::default();
    assert_eq!((none.newest(), none.step(), none.is_full()), (None, None, false));
    assert!(!none.is_torn(Micros::MAX, Some(0)));
    assert_eq!(recent(&[5]).step(), None, "one reading gives no distance");
    assert_eq!(recent(&[5]).newest(), Some(5 * SECOND));
}

#[test]
fn only_the_last_six_readings_count() {
    let all: Vec<i64> = (0..6).map(|n| n * 3600).chain((0..6).map(|n| 18_010 + n * 10)).collect();
    let recent = recent(&all);
    assert!(recent.is_full());
    assert_eq!(recent.step(), Some(10 * SECOND), "it sends faster now");
    assert!(recent.is_torn((18_060 + 901) * SECOND, None));
}

#[test]
fn a_limit_of_a_rule_is_exact() {
    let recent = recent(&[0, 10]);
    assert!(!recent.is_torn(40 * SECOND, Some(30 * SECOND)));
    assert!(recent.is_torn(40 * SECOND + 1, Some(30 * SECOND)));
    assert!(!recent.is_torn(10 * SECOND + GAP, None));
    assert!(recent.is_torn(10 * SECOND + GAP + 1, None));
}

#[test]
fn a_reading_from_before_the_newest_is_never_behind_a_gap() {
    assert!(!recent(&[0, 10_000]).is_torn(0, None));
    assert!(!recent(&[0, 10_000]).is_torn(0, Some(0)));
}

#[test]
fn what_was_before_the_longest_gap_says_nothing_of_a_devices_steps() {
    let days = 5 * 86_400;
    let back = recent(&[0, 10, 20, days, days + 10]);
    assert_eq!(back, recent(&[days, days + 10]));
    assert_eq!(recent(&[0, days]).step(), None);
}

#[test]
fn the_longest_gap_is_exceeded_by_every_device() {
    let slow = recent(&[0, 200_000, 400_000, 600_000]);
    let end = 600_000 * SECOND;
    assert!(!slow.is_torn(end + LONGEST_GAP, None));
    assert!(slow.is_torn(end + LONGEST_GAP + 1, None));
}

#[test]
fn a_beginning_behind_too_few_readings_is_not_certain() {
    assert_eq!(certain_before(&[], 100, 0), None);
    let from = 10_000 * SECOND;
    // Back by the wait and a quarter of an hour: exactly that is not enough.
    assert_eq!(certain_before(&[from - GAP - 60 * SECOND], from, 60 * SECOND), None);
    let times = [from - GAP - 60 * SECOND - 1, from - 600 * SECOND];
    assert_eq!(certain_before(&times, from, 60 * SECOND), Some(times[0] - 1));
}
