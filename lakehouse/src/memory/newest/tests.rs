use super::*;

#[test]
fn the_newest_time_never_goes_back() {
    let newest = Newest::new(4);
    assert_eq!(newest.get("a"), None);
    newest.note("a", 5);
    newest.note("a", 3);
    assert_eq!(newest.get("a"), Some(5));
    newest.note("a", 6);
    assert_eq!(newest.get("a"), Some(6));
    newest.note("b", -7);
    assert_eq!(newest.get("b"), Some(-7), "a time before 1970 is a time");
}

#[test]
fn newer_is_strictly_later_and_above_the_floor() {
    let newest = Newest::new(1);
    assert!(newest.is_newer("a", Micros::MIN + 1));
    newest.note("a", 100);
    assert!(!newest.is_newer("a", 99) && !newest.is_newer("a", 100) && newest.is_newer("a", 101));
    newest.know_from(1000);
    assert!(!newest.is_newer("a", 101) && !newest.is_newer("b", 1000));
    assert!(newest.is_newer("b", 1001));
    newest.know_from(10);
    assert!(!newest.is_newer("b", 1000), "what is unknown does not become known");
}

#[test]
fn clones_see_the_same_and_a_partition_is_forgotten_alone() {
    let newest = Newest::new(4);
    let clone = newest.clone();
    let devices: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    devices.iter().for_each(|device| clone.note(device, 1));
    newest.know_from(50);
    assert!(!clone.is_newer("x", 50), "the floor is shared too");
    newest.forget(2);
    for device in &devices {
        assert_eq!(clone.get(device).is_none(), newest.partition(device) == 2, "{device}");
    }
    assert!(devices.iter().any(|device| newest.partition(device) == 2));
    newest.forget(4);
    assert_eq!(
        devices.iter().filter(|d| newest.partition(d) != 2 && newest.get(d).is_none()).count(),
        0
    );
}

#[test]
fn without_partitions_nothing_is_known_and_nothing_breaks() {
    let newest = Newest::new(0);
    newest.note("a", 5);
    assert_eq!(newest.get("a"), None);
    newest.forget(0);
}
