use proptest::prelude::*;

use super::*;

fn meters(all: &[(&str, f64, f64)]) -> Meters {
    let terms = |(id, end, per_hour): &(&str, f64, f64)| {
        (Arc::from(*id), MeterTerms { end: *end, per_hour: *per_hour })
    };
    Meters(all.iter().map(terms).collect())
}

#[test]
fn meter_terms_survive_being_stored() {
    let all = meters(&[("a", 1e8, 103.5), ("b\"", 1e6, 0.1 + 0.2)]);
    let stored = from_text(&to_text(&all));
    assert!(all.others_than(&stored).is_empty() && stored.others_than(&all).is_empty());
}

#[test]
fn a_stored_text_that_can_not_be_read_has_everything_recounted() {
    let all = meters(&[("a", 1e6, 5.0)]);
    for broken in ["", "null", "[]", r#"{"a":[1]}"#] {
        assert_eq!(all.others_than(&from_text(broken)).len(), 1, "{broken}");
    }
}

#[test]
fn a_zone_that_is_not_known_any_more_is_left_out() {
    let zones = [("a", "Europe/Prague"), ("b", "Europe/Atlantis"), ("c", "")];
    let zones = zones.map(|(device, zone)| (device.to_owned(), zone.to_owned())).to_vec();
    let known: Vec<_> = parsed_zones(zones).0.into_keys().map(|id| id.to_string()).collect();
    assert_eq!(known, ["a"], "the others count by UTC");
}

proptest! {
    #[test]
    fn no_meter_terms_change_by_being_stored(
        end in prop::num::f64::NORMAL | prop::num::f64::ZERO,
        per_hour in 1.0..1e6_f64,
    ) {
        let all = meters(&[("a", end, per_hour)]);
        prop_assert!(all.others_than(&from_text(&to_text(&all))).is_empty());
    }
}
