use super::*;
use crate::{
    ErrorKind,
    testing::{add_devices, at, audited, by, fresh, get_device, scope_of},
};

fn body(name: &str) -> GroupBody {
    GroupBody { name: name.into(), ..GroupBody::default() }
}

async fn create(control: &Control, name: &str) -> Uuid {
    control.create_group(&body(name), &by(0)).await.expect("create")
}

fn members(add: &[&str], remove: &[&str]) -> MembersChange {
    let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    MembersChange { add: texts(add), remove: texts(remove) }
}

async fn group_of(control: &Control, id: &str) -> Option<Uuid> {
    get_device(control, id).await.group_id
}

#[tokio::test]
async fn members_change_all_or_none() {
    let (_dir, control) = fresh().await;
    let group = create(&control, "g").await;
    add_devices(&control, &["a", "b", "theirs"]).await;
    let scope = scope_of(&["a", "b"]);
    let before = audited(&control).await;
    for change in
        [members(&["a", "theirs"], &[]), members(&["a", "none"], &[]), members(&["a"], &["theirs"])]
    {
        let refused = control.change_members(group, &change, Some(&scope), &by(1)).await;
        assert!(refused.expect("ask").is_some(), "{change:?}");
        assert_eq!(group_of(&control, "a").await, None, "{change:?}");
    }
    assert_eq!(audited(&control).await, before);
    let both = members(&["a", "b"], &[]);
    let moved = control.change_members(group, &both, Some(&scope), &by(2)).await.expect("ask");
    assert_eq!(moved, None);
    assert_eq!(get_device(&control, "b").await.updated_at, at(2), "streams read it again");
}

#[tokio::test]
async fn a_device_is_removed_only_from_the_group_it_is_in() {
    let (_dir, control) = fresh().await;
    let (one, two) = (create(&control, "one").await, create(&control, "two").await);
    add_devices(&control, &["a", "b"]).await;
    let change = async |group, change: MembersChange| {
        let moved = control.change_members(group, &change, None, &by(1)).await;
        assert_eq!(moved.expect("ask"), None);
    };
    change(one, members(&["a"], &[])).await;
    change(two, members(&[], &["a", "b"])).await;
    assert_eq!(group_of(&control, "a").await, Some(one));
    change(two, members(&["a"], &[])).await;
    assert_eq!(group_of(&control, "a").await, Some(two), "it is in one group at a time");
    let counts = control.groups(None, 9, None).await.expect("list").0;
    assert_eq!(counts.iter().map(|g| g.devices).collect::<Vec<_>>(), [0, 1]);
    change(two, members(&["b"], &["b", "a"])).await;
    assert_eq!((group_of(&control, "a").await, group_of(&control, "b").await), (None, None));
}

#[tokio::test]
async fn a_name_is_of_one_group_and_a_refused_change_leaves_the_old_values() {
    let (_dir, control) = fresh().await;
    let (one, _) = (create(&control, "one").await, create(&control, "two").await);
    let taken = GroupBody { nominal_voltage_v: Some(230.0), ..body("two") };
    let error = control.update_group(one, &taken, &by(1)).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let now = control.group(one, None).await.expect("ask").expect("there");
    assert_eq!((now.name.as_str(), now.nominal_voltage_v, now.updated_at), ("one", None, at(0)));
    let own = GroupBody { nominal_voltage_v: Some(230.0), ..body("one") };
    assert!(control.update_group(one, &own, &by(2)).await.expect("its own name"));
    let reset = control.update_group(one, &body("one"), &by(3)).await.expect("update");
    let now = control.group(one, None).await.expect("ask").expect("there");
    assert_eq!((reset, now.nominal_voltage_v), (true, None), "what is not given is emptied");
}

#[tokio::test]
async fn a_scope_sees_the_groups_it_names_and_no_others() {
    let (_dir, control) = fresh().await;
    let (one, two) = (create(&control, "one").await, create(&control, "two").await);
    add_devices(&control, &["a"]).await;
    control.change_members(one, &members(&["a"], &[]), None, &by(1)).await.expect("members");
    let by_device = scope_of(&["a"]);
    let by_group = Scope { device_ids: vec![], group_ids: vec![two] };
    assert_eq!(control.group(one, Some(&by_device)).await.expect("ask"), None);
    assert_eq!(control.groups(None, 9, Some(&by_device)).await.expect("list"), (vec![], 0));
    assert_eq!(control.group(one, Some(&by_group)).await.expect("ask"), None);
    let (seen, total) = control.groups(None, 9, Some(&by_group)).await.expect("list");
    assert_eq!((seen[0].id, seen.len(), total), (two, 1, 1));
}

#[tokio::test]
async fn pages_of_groups_hold_each_once() {
    let (_dir, control) = fresh().await;
    for name in ["b", "a", "a b", "Z", "ä"] {
        create(&control, name).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, total) = control.groups(after.as_deref(), 2, None).await.expect("list");
        assert_eq!(total, 5);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(page.into_iter().map(|group| group.name));
    }
    seen.sort();
    assert_eq!(seen, ["Z", "a", "a b", "b", "ä"]);
}

#[tokio::test]
async fn streams_read_again_after_each_change_of_a_group() {
    let (_dir, control) = fresh().await;
    let group = create(&control, "g").await;
    add_devices(&control, &["a"]).await;
    control.change_members(group, &members(&["a"], &[]), None, &by(1)).await.expect("members");
    let mut last = control.judged_by().await.expect("ask");
    control.update_group(group, &body("h"), &by(2)).await.expect("update");
    let now = control.judged_by().await.expect("ask");
    assert_ne!(now, last);
    last = now;
    assert!(control.delete_group(group, &by(3)).await.expect("delete"));
    assert_ne!(control.judged_by().await.expect("ask"), last);
    assert_eq!(group_of(&control, "a").await, None);
}

#[tokio::test]
async fn a_device_takes_from_its_group_what_it_has_not_itself() {
    let (_dir, control) = fresh().await;
    let own = GroupBody {
        nominal_voltage_v: Some(230.0),
        nominal_frequency_hz: Some(50.0),
        counter_end: Some(1e8),
        time_zone: Some("Africa/Johannesburg".into()),
        ..body("g")
    };
    let group = control.create_group(&own, &by(0)).await.expect("create");
    add_devices(&control, &["a", "b"]).await;
    crate::testing::update(&control, crate::DeviceUpdate::new("c", at(0))).await;
    control.change_members(group, &members(&["a", "b"], &[]), None, &by(1)).await.expect("ask");
    let edit = acuvim_model::DeviceEdit {
        nominal_voltage_v: Some(Some(120.0)),
        time_zone: Some(Some("UTC".into())),
        ..Default::default()
    };
    control.edit_device("b", &edit, None, &by(2)).await.expect("edit");
    let mut sites = control.device_sites(None).await.expect("ask");
    sites.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    let nominal: Vec<_> = sites
        .iter()
        .map(|s| (s.device_id.as_str(), s.nominal_voltage_v, s.nominal_frequency_hz))
        .collect();
    assert_eq!(nominal, [("a", Some(230.0), Some(50.0)), ("b", Some(120.0), Some(50.0))]);
    let mut zones = control.device_zones().await.expect("ask");
    zones.sort();
    assert_eq!(zones, [("a".into(), "Africa/Johannesburg".into()), ("b".into(), "UTC".into())]);
    let meters = control.device_meters().await.expect("ask");
    assert!(meters.len() == 2 && meters.iter().all(|m| m.counter_end == Some(1e8)));
    let changed = control.device_sites(Some(at(2))).await.expect("ask");
    assert_eq!(changed.iter().map(|s| s.device_id.as_str()).collect::<Vec<_>>(), ["b"]);
}
