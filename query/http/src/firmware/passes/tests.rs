//! Rights that are remembered, for how long, and how many.

use super::*;
use crate::testing::stored_release;

fn release(version: &str) -> StoredFirmware {
    stored_release(version, "x.bin")
}

fn key(device_id: &str, version: &str) -> PassKey {
    PassKey { device_id: device_id.into(), version: version.into() }
}

#[test]
fn a_right_is_of_one_device_and_one_version() {
    let passes = Passes::default();
    passes.put(key("d1", "1.2.0"), Pass::new(release("1.2.0")));
    assert!(passes.get(&key("d1", "1.2.0")).is_some_and(|pass| !pass.began));
    assert!(passes.get(&key("d2", "1.2.0")).is_none());
    assert!(passes.get(&key("d1", "1.3.0")).is_none());
}

#[test]
fn a_right_ends_by_itself() {
    let passes = Passes::default();
    let over = Pass { until: Instant::now(), ..Pass::new(release("1.2.0")) };
    passes.put(key("d1", "1.2.0"), over);
    assert!(passes.get(&key("d1", "1.2.0")).is_none());
}

#[test]
fn a_version_that_was_changed_is_forgotten_and_no_other() {
    let passes = Passes::default();
    for (device, version) in [("d1", "1.2.0"), ("d2", "1.2.0"), ("d1", "1.2.0-rc.1")] {
        passes.put(key(device, version), Pass::new(release(version)));
    }
    passes.forget("1.2.0");
    assert!(passes.get(&key("d1", "1.2.0")).is_none() && passes.get(&key("d2", "1.2.0")).is_none());
    assert!(passes.get(&key("d1", "1.2.0-rc.1")).is_some());
}

#[test]
fn memory_is_bounded_and_rights_that_are_over_make_room() {
    let passes = Passes::default();
    let over = Pass { until: Instant::now(), ..Pass::new(release("1.2.0")) };
    for n in 0..MOST {
        passes.put(key(&n.to_string(), "1.2.0"), over.clone());
    }
    passes.put(key("d1", "1.2.0"), Pass::new(release("1.2.0")));
    assert_eq!(passes.lock().len(), 1, "those that were over are gone");
    let held = Pass::new(release("1.2.0"));
    for n in 0..MOST + 10 {
        passes.put(key(&n.to_string(), "1.2.0"), held.clone());
    }
    assert_eq!(passes.lock().len(), MOST);
    assert!(passes.get(&key("d1", "1.2.0")).is_some(), "no right is dropped for another");
}
