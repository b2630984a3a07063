use super::*;

#[test]
fn beginnings_count_within_their_window() {
    let flapping = Flapping { count: 3, window: 100 };
    let mut begun = Begun::default();
    assert!(begun.is_empty() && !begun.is_flapping(0, flapping));
    begun.push(0);
    begun.push(50);
    assert!(begun.is_flapping(99, flapping));
    assert!(!begun.is_flapping(100, flapping), "the first is too far back");
    assert_eq!((begun.recent(149, flapping), begun.recent(150, flapping)), (1, 0));
    for ts in 100..200 {
        begun.push(ts);
    }
    let stored = serde_json::to_string(&begun).expect("json");
    assert_eq!(stored, "[191,192,193,194,195,196,197,198,199]");
    assert_eq!(serde_json::from_str::<Begun>(&stored).ok(), Some(begun));
}

#[test]
fn a_beginning_at_the_edge_of_the_window_does_not_count() {
    let flapping = Flapping { count: 2, window: 100 };
    let begun = Begun::from(vec![1000]);
    assert!(begun.is_flapping(1099, flapping));
    assert!(!begun.is_flapping(1100, flapping));
}

#[test]
fn a_rule_can_require_as_many_episodes_as_are_kept() {
    let flapping = Flapping { count: MOST_FLAPS, window: 1000 };
    let begun = Begun::from((1..10).collect::<Vec<_>>());
    assert!(begun.is_flapping(11, flapping), "with the tenth");
    assert!(!Begun::from((1..9).collect::<Vec<_>>()).is_flapping(11, flapping));
}

#[test]
fn a_stored_list_that_is_too_long_keeps_its_newest_and_one_window_at_the_beginning_of_time_works() {
    let begun: Begun = serde_json::from_str("[1,2,3,4,5,6,7,8,9,10,11,12]").expect("a list");
    assert_eq!(Vec::from(begun), (4..=12).collect::<Vec<_>>());
    let flapping = Flapping { count: 2, window: Micros::MAX };
    assert_eq!(begun.recent(Micros::MIN + 5, flapping), 9, "the window does not overflow");
}
