use acuvim_model::{GroupBody, NewDevice};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    Control,
    testing::{add_devices, by, fresh, give, new_device, ping, runtime, scope_of},
};

fn condition(scope: Option<&Scope>) -> (String, usize) {
    let mut statement = Statement::new("WHERE 1 = 1");
    within(&mut statement, scope);
    let (text, values) = statement.into_parts();
    (text.0.split_whitespace().collect::<Vec<_>>().join(" "), values.len())
}

#[test]
fn no_scope_is_every_device_and_an_empty_one_is_none() {
    assert_eq!(condition(None), ("WHERE 1 = 1".to_owned(), 0));
    let empty = Scope { device_ids: vec![], group_ids: vec![] };
    assert_eq!(condition(Some(&empty)), ("WHERE 1 = 1 AND (1 = 0 )".to_owned(), 0));
    let one = Scope { device_ids: vec!["d1".into(), "d2".into()], group_ids: vec![] };
    let (text, values) = condition(Some(&one));
    assert!(text.contains("device_id IN ($1 , $2 )"), "{text}");
    assert_eq!(values, 2);
}

#[test]
fn a_stored_scope_that_cant_be_read_is_not_taken_for_no_scope() {
    assert_eq!(from_json(None).ok(), Some(None));
    assert_eq!(from_json(Some(Json::Null)).ok(), Some(None));
    assert!(from_json(Some(Json::Bool(true))).is_err());
    let scope = Scope { device_ids: vec!["d1".into()], group_ids: vec![] };
    assert_eq!(from_json(to_json(Some(&scope))).ok(), Some(Some(scope)));
}

/// The fleet of the property below: sites with one, two and three loggers, in groups or none.
async fn fleet(control: &Control) -> ([Uuid; 2], Vec<(&'static str, &'static str, Option<usize>)>) {
    let mut groups = [Uuid::nil(); 2];
    for (n, group) in groups.iter_mut().enumerate() {
        let body = GroupBody { name: format!("g{n}"), ..GroupBody::default() };
        *group = control.create_group(&body, &by(0)).await.expect("group");
    }
    // The device, its site, and the group that it is in at the end.
    let fleet = vec![
        ("a1", "a", None),
        ("a2", "a", None),
        ("a3", "a", Some(0)),
        ("b1", "b", None),
        ("b2", "b", Some(1)),
        ("c1", "c", Some(0)),
        ("d1", "d", None),
        ("e'; --", "e", Some(1)),
    ];
    for (first, group) in [("a1", Some(0)), ("b1", Some(1)), ("c1", Some(0)), ("d1", None)] {
        let group_id = group.map(|n: usize| groups[n]);
        let new = NewDevice { group_id, ..new_device(first) };
        control.create_device(&new, &by(0)).await.expect("create");
    }
    let new = NewDevice { group_id: Some(groups[1]), ..new_device("e'; --") };
    control.create_device(&new, &by(0)).await.expect("create");
    for (old, new) in [("a1", "a2"), ("a2", "a3"), ("b1", "b2")] {
        control.replace_device(old, new, None, &by(1)).await.expect("replace");
    }
    (groups, fleet)
}

#[test]
fn a_scope_is_the_sites_of_its_devices_and_of_its_groups() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    let (groups, fleet) = runtime.block_on(fleet(&control));
    let ids = ["a1", "a2", "a3", "b1", "b2", "c1", "d1", "e'; --", "none", "' OR 1=1 --", ""];
    let scopes = (
        prop::sample::subsequence(ids.to_vec(), 0..=ids.len()),
        prop::sample::subsequence(vec![0_usize, 1, 2], 0..=3),
    );
    proptest!(ProptestConfig::with_cases(64), |(scope in scopes)| {
        let (ids, numbers) = scope;
        let scope = Scope {
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            // The last one is the id of no group.
            group_ids: numbers.iter().map(|n| groups.get(*n).copied().unwrap_or_default()).collect(),
        };
        let named: Vec<&str> = fleet
            .iter()
            .filter(|(id, _, group)| ids.contains(id) || group.is_some_and(|g| numbers.contains(&g)))
            .map(|(_, site, _)| *site)
            .collect();
        let wanted: Vec<&str> =
            fleet.iter().filter(|(_, site, _)| named.contains(site)).map(|(id, ..)| *id).collect();
        let mut seen = runtime.block_on(control.scoped_device_ids(&scope)).expect("ids");
        seen.sort();
        prop_assert_eq!(&seen, &wanted);
        for (id, ..) in &fleet {
            let one = runtime.block_on(control.device(id, Some(&scope))).expect("ask");
            prop_assert_eq!(one.is_some(), wanted.contains(id), "{}", id);
        }
    });
}

#[tokio::test]
async fn what_belongs_to_a_device_outside_the_scope_is_not_there() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["mine", "theirs"]).await;
    let id = give(&control, &ping("theirs"), 1).await;
    let scope = scope_of(&["mine"]);
    assert!(control.command(id, None).await.expect("ask").is_some());
    assert!(control.command(id, Some(&scope)).await.expect("ask").is_none());
    let filter = crate::CommandFilter { limit: 9, ..Default::default() };
    assert_eq!(control.commands(&filter, Some(&scope)).await.expect("list").1, 0);
    let of_theirs = crate::CommandFilter { device_id: Some("theirs".into()), ..filter.clone() };
    assert_eq!(control.commands(&of_theirs, Some(&scope)).await.expect("list").1, 0);
    assert!(control.scoped_sites(&scope).await.expect("ask").iter().all(|d| d.device_id == "mine"));
    // Of a deleted device nobody can tell whose it was, so only callers without a scope see its rest.
    assert!(control.delete_device("mine", None, &by(2)).await.expect("delete"));
    assert_eq!(control.device_counts(Some(&scope)).await.expect("count"), []);
    assert!(control.scoped_device_ids(&scope).await.expect("ids").is_empty());
    let theirs = control.commands(&filter, None).await.expect("list").0;
    assert_eq!(theirs.len(), 1);
}
