use super::*;

fn terms(per_hour: f64) -> MeterTerms {
    MeterTerms { per_hour, ..MeterTerms::default() }
}

fn meters(all: &[(&str, f64)]) -> Meters {
    Meters(all.iter().map(|(id, per_hour)| (Arc::from(*id), terms(*per_hour))).collect())
}

fn ids(ids: &[&str]) -> Vec<Arc<str>> {
    ids.iter().map(|id| Arc::from(*id)).collect()
}

#[test]
fn devices_are_others_if_their_limits_were_added_removed_or_changed() {
    let before = meters(&[("changed", 1.0), ("removed", 1.0), ("same", 1.0)]);
    let now = meters(&[("changed", 2.0), ("added", 1.0), ("same", 1.0)]);
    let wanted = ids(&["added", "changed", "removed"]);
    assert_eq!(now.others_than(&before), wanted);
    assert_eq!(before.others_than(&now), wanted, "in either direction");
    assert!(now.others_than(&now).is_empty());
}

#[test]
fn limits_that_equal_the_defaults_are_no_change() {
    let stated = Meters(HashMap::from([("a".into(), MeterTerms::default())]));
    assert!(stated.others_than(&Meters::default()).is_empty());
}

#[test]
fn the_limits_of_some_devices_are_taken_over_and_those_of_others_stay() {
    let before = meters(&[("a", 1.0), ("b", 1.0), ("gone", 1.0)]);
    let now = meters(&[("a", 2.0), ("b", 2.0), ("new", 2.0)]);
    let mixed = before.clone().with_terms_of(&now, &ids(&["a", "gone", "new"]));
    assert_eq!(mixed, meters(&[("a", 2.0), ("b", 1.0), ("new", 2.0)]));
    assert_eq!(before.clone().with_terms_of(&now, &[]), before);
    let all = now.others_than(&before);
    assert_eq!(before.with_terms_of(&now, &all), now);
}

#[test]
fn a_scope_knows_no_meters_of_others() {
    let known = KnownMeters::default();
    assert!(known.loaded().is_none());
    known.set_meters(meters(&[("mine", 1.0), ("theirs", 2.0)]));
    known.set_changes(HashMap::from([("mine".into(), vec![5]), ("theirs".into(), vec![6])]));
    let scoped = known.of(&["mine".to_owned(), "unknown".to_owned()]);
    assert_eq!(*scoped.meters(), meters(&[("mine", 1.0)]));
    assert_eq!(*scoped.changes(), HashMap::from([("mine".into(), vec![5])]));
    assert!(known.of(&[]).meters().0.is_empty());
    known.set_meters(meters(&[("mine", 3.0)]));
    assert_eq!(*scoped.meters(), meters(&[("mine", 1.0)]), "a query keeps what it began with");
    assert_eq!(known.meters().terms_of("mine"), terms(3.0), "clones share it");
}
