//! Episodes at the edges of a backtest's range.

use super::*;

fn episode(started: i64, ended: Option<i64>) -> FoundEpisode {
    let raised = started * SECOND;
    FoundEpisode { started: raised, raised, ended: ended.map(|end| end * SECOND) }
}

#[test]
fn a_device_is_summed_up_over_the_range_alone() {
    let episodes = [episode(-100, Some(50)), episode(60, Some(70)), episode(1000, None)];
    let episodes: Vec<&FoundEpisode> = episodes.iter().collect();
    let range = 0..1100 * SECOND;
    let device = of_device("d1", &episodes, &range, 2);
    assert_eq!((device.episodes, device.list.len()), (3, 2));
    assert_eq!(device.flaps, 1, "the second begins ten seconds after the first");
    assert!((device.seconds_in_alarm - 160.0).abs() < 1e-9, "{}", device.seconds_in_alarm);
}

#[test]
fn episodes_that_touch_the_range_count() {
    let range = 100 * SECOND..200 * SECOND;
    assert!(is_within(&episode(0, None), &range));
    assert!(is_within(&episode(0, Some(100)), &range));
    assert!(!is_within(&episode(0, Some(99)), &range));
    assert!(!is_within(&episode(200, None), &range));
}

#[test]
fn an_episode_that_begins_long_after_the_one_before_is_no_flap() {
    let range = 0..10_000 * SECOND;
    let flaps = |second: i64| {
        let episodes = [episode(0, Some(100)), episode(second, Some(second + 10))];
        of_device("d1", &episodes.iter().collect::<Vec<_>>(), &range, 10).flaps
    };
    assert_eq!(flaps(100 + 299), 1);
    assert_eq!(flaps(100 + 300), 0);
    let open = [episode(0, None), episode(50, None)];
    assert_eq!(of_device("d1", &open.iter().collect::<Vec<_>>(), &range, 10).flaps, 0);
}

#[test]
fn seconds_in_alarm_are_those_within_the_range() {
    let range = 100 * SECOND..200 * SECOND;
    let seconds = |started, ended| {
        let episodes = [episode(started, ended)];
        of_device("d1", &episodes.iter().collect::<Vec<_>>(), &range, 10).seconds_in_alarm
    };
    for (started, ended, want) in [
        (0, Some(100), 0.0),
        (0, Some(150), 50.0),
        (150, Some(160), 10.0),
        (150, Some(999), 50.0),
        (150, None, 50.0),
        (0, None, 100.0),
    ] {
        assert!((seconds(started, ended) - want).abs() < 1e-9, "{started} to {ended:?}");
    }
}

#[test]
fn an_episode_counts_when_it_is_raised_and_not_when_it_begins() {
    let range = 100 * SECOND..200 * SECOND;
    let late = FoundEpisode { started: 150 * SECOND, raised: 200 * SECOND, ended: None };
    assert!(!is_within(&late, &range), "raised only after the range");
    let shown = shown(&FoundEpisode { started: 0, raised: SECOND, ended: None });
    assert_eq!((shown.created_at.timestamp(), shown.raised_at.timestamp()), (0, 1));
    assert_eq!(shown.resolved_at, None);
}
