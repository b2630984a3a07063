//! The order in which releases are offered.

use chrono::DateTime;

use super::*;
use crate::testing::release;

fn uploaded(version: &str, second: i64) -> api::Firmware {
    let created_at = DateTime::from_timestamp(second, 0).expect("a time");
    api::Firmware { created_at, ..release(version) }
}

#[test]
fn the_highest_version_comes_first_and_of_equal_ones_the_newest_upload() {
    let mut releases = [
        uploaded("not a version", 9),
        uploaded("1.9.0", 8),
        uploaded("1.10.0-rc.1", 7),
        uploaded("1.10.0+old", 1),
        uploaded("1.10.0+new", 2),
    ];
    releases.sort_by(newest_first);
    let order: Vec<&str> = releases.iter().map(|firmware| firmware.version.as_str()).collect();
    assert_eq!(order, ["1.10.0+new", "1.10.0+old", "1.10.0-rc.1", "1.9.0", "not a version"]);
}
