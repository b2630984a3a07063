use std::collections::BTreeSet;

use acuvim_wire::time::parse_rfc3339;
use proptest::prelude::*;

use super::*;
use crate::rollup::QUARTER;

fn at(text: &str) -> i64 {
    parse_rfc3339(text).expect(text)
}

/// The local days of the quarters that begin at some times.
fn days_of(zone: Tz, quarters: &[&str]) -> Vec<i64> {
    let zones = Zones([("a".into(), zone)].into());
    let quarters = quarters.iter().map(|text| at(text)).collect::<BTreeSet<_>>();
    let days = local_days(&BucketKeys::from([("a".into(), quarters)]), &zones);
    days.into_values().flatten().collect()
}

#[test]
fn the_last_quarter_of_a_day_and_the_first_of_the_next_are_apart() {
    let quarters = ["2026-05-16T21:45:00Z", "2026-05-16T22:00:00Z"];
    let (before, after) = (at("2026-05-15T22:00:00Z"), at("2026-05-16T22:00:00Z"));
    assert_eq!(days_of(Tz::Africa__Johannesburg, &quarters), [before, after]);
    assert_eq!(days_of(Tz::UTC, &quarters), [at("2026-05-16T00:00:00Z")]);
}

#[test]
fn quarters_of_zones_with_odd_offsets_belong_to_whole_days() {
    let first = "2026-05-16T18:15:00Z";
    let days = days_of(Tz::Asia__Kathmandu, &["2026-05-16T18:00:00Z", first]);
    assert_eq!(days, [at("2026-05-15T18:15:00Z"), at(first)]);
}

#[test]
fn a_day_on_which_clocks_change_is_one_day() {
    // 2026-03-29 has 23 hours in Berlin and 2026-10-25 has 25.
    for (start, end, hours) in [
        ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23),
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25),
    ] {
        let (start, end) = (at(start), at(end));
        assert_eq!((end - start) / HOUR, hours);
        let quarters: BTreeSet<i64> =
            (0..).map(|n| start + n * QUARTER).take_while(|q| *q < end).collect();
        let zones = Zones([("a".into(), Tz::Europe__Berlin)].into());
        let all = |quarters| local_days(&BucketKeys::from([("a".into(), quarters)]), &zones);
        assert_eq!(all(quarters)[&Arc::<str>::from("a")], BTreeSet::from([start]));
        assert_eq!(all([start - QUARTER, end].into())[&Arc::<str>::from("a")].len(), 2);
    }
}

#[test]
fn devices_without_a_zone_have_days_of_utc() {
    let zones = Zones([("other".into(), Tz::Asia__Tokyo)].into());
    assert_eq!(zones.of("a"), Tz::UTC);
    assert_eq!(zones.of("other"), Tz::Asia__Tokyo);
    assert!(local_days(&BucketKeys::new(), &zones).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_quarter_lies_in_its_day(
        n in 0..400_000_i64,
        zone in prop::sample::select(vec![
            Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kathmandu,
            Tz::Australia__Lord_Howe, Tz::Africa__Cairo, Tz::Pacific__Kiritimati,
        ]),
    ) {
        let quarter = at("2019-01-01T00:00:00Z") + n * QUARTER;
        let calendar = days(zone).expect("days are regular");
        let start = calendar.start(quarter).expect("a day");
        let next = calendar.next(start).expect("the next one");
        prop_assert!((start..next).contains(&quarter));
        prop_assert_eq!(start.rem_euclid(QUARTER), 0, "days are made of whole quarters");
        prop_assert!((23 * HOUR..=25 * HOUR).contains(&(next - start)));
    }
}
