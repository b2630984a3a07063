//! Devices: what they send, what people enter about them, lists, scopes, secrets, replacement.

use acuvim_control::{
    Applied, Changes, Control, Created, DeviceFilter, DeviceSort, DeviceUpdate, Edited, OffsetMove,
    Replaced, hash_secret,
};
use acuvim_model::{DeviceEdit, DeviceStatus, GroupBody, MembersChange, NewDevice, Scope};
use acuvim_wire::payload::{Heartbeat, Registration};
use serde_json::json;
use uuid::Uuid;

use crate::{at, by, on_both};

/// Applies updates at the next offset.
async fn update(control: &Control, updates: Vec<DeviceUpdate>) {
    let expected = control.offset(0, 0).await.expect("ask");
    let next = expected.unwrap_or(0) + 1;
    let moves = vec![OffsetMove { partition: 0, expected, next }];
    let changes = Changes { moves, devices: updates, ..Changes::default() };
    assert_eq!(control.apply(0, &changes).await.expect("apply"), Applied::Done);
}

fn registering(device: &str, second: i64, json: serde_json::Value) -> DeviceUpdate {
    let registration: Registration = serde_json::from_value(json).expect("valid");
    let mut note = DeviceUpdate::new(device, at(second));
    note.registrations.push(registration);
    note
}

fn beating(device: &str, second: i64, json: serde_json::Value) -> DeviceUpdate {
    let heartbeat: Heartbeat = serde_json::from_value(json).expect("valid");
    let mut note = DeviceUpdate::new(device, at(second));
    note.heartbeat = Some((at(second), Box::new(heartbeat)));
    note.status = vec![crate::status_step(DeviceStatus::Online, second)];
    note.heard = true;
    note
}

fn named(id: &str, name: &str) -> NewDevice {
    NewDevice { device_id: id.into(), name: Some(name.into()), ..NewDevice::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_appears_by_itself_and_registers_without_losing_what_people_entered() {
    on_both(async |control| {
        update(
            &control,
            vec![DeviceUpdate::new("ACV-1", at(0)), DeviceUpdate::new("acv-2", at(1))],
        )
        .await;
        let edit = DeviceEdit {
            name: Some(Some("Feeder".into())),
            tags: Some(Some(vec!["roof".into()])),
            ..DeviceEdit::default()
        };
        control.edit_device("ACV-1", &edit, None, &by(2)).await.expect("edit");
        let said = json!({
            "device_id": "ACV-1", "imei": "351234567890123", "capabilities": ["wifi", "sd"],
            "boot": 17, "name": "its own idea", "hardware": "nul\u{0}"
        });
        update(&control, vec![registering("ACV-1", 3, said)]).await;
        let device = control.device("ACV-1", None).await.expect("ask").expect("there");
        assert!(device.registered && device.enabled);
        assert_eq!(device.imei.as_deref(), Some("351234567890123"));
        assert_eq!(device.capabilities, ["wifi", "sd"]);
        assert_eq!(device.hardware.as_deref(), Some("nul"));
        assert_eq!(
            (device.name.as_deref(), device.tags.as_slice()),
            (Some("Feeder"), &["roof".to_owned()][..])
        );
        let times = (device.boot_count, device.created_at, device.updated_at);
        assert_eq!(times, (Some(17), at(0), at(3)));
        let mut ids = control.device_ids().await.expect("ask");
        ids.sort();
        assert_eq!(ids, ["ACV-1", "acv-2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_newer_heartbeats_and_states_update_a_device() {
    on_both(async |control| {
        let device = async || control.device("d", None).await.expect("ask").expect("there");
        let beat = json!({
            "ts": "2026-05-01T00:00:00Z", "heartbeat_interval_s": 30, "firmware_version": "1.2.0",
            "uptime_ms": 5000, "boot": 3, "signal_strength": -61, "connection_type": "wifi",
            "ip_address": "192.168.1.20"
        });
        update(&control, vec![beating("d", 10, beat)]).await;
        let now = device().await;
        assert_eq!((now.status, now.status_at), (DeviceStatus::Online, Some(at(10))));
        assert_eq!(now.last_heartbeat, Some(at(10)));
        assert_eq!((now.heartbeat_interval_s, now.signal_strength), (Some(30), Some(-61)));
        assert_eq!(now.firmware_version.as_deref(), Some("1.2.0"));
        let old = json!({"firmware_version": "1.1.0", "csq": 20});
        let mut beat = beating("d", 5, old);
        beat.status.clear();
        update(&control, vec![beat]).await;
        assert_eq!(device().await.firmware_version.as_deref(), Some("1.2.0"));
        let modem = json!({"firmware_version": "1.3.0", "csq": 20});
        let mut beat = beating("d", 20, modem);
        beat.status.clear();
        update(&control, vec![beat]).await;
        let now = device().await;
        assert_eq!(
            (now.firmware_version.as_deref(), now.signal_strength),
            (Some("1.3.0"), Some(-73))
        );
        assert_eq!(now.ip_address.as_deref(), Some("192.168.1.20"), "what it does not say stays");
        assert_eq!(now.status_at, Some(at(10)), "since when, not how often");
        let mut gone = DeviceUpdate::new("d", at(30));
        gone.status = vec![crate::status_step(DeviceStatus::Offline, 30)];
        update(&control, vec![gone]).await;
        assert_eq!(
            (device().await.status, device().await.status_at),
            (DeviceStatus::Offline, Some(at(30)))
        );
        let mut measured = DeviceUpdate::new("d", at(40));
        measured.telemetry = Some(at(39));
        let mut late = measured.clone();
        late.telemetry = Some(at(1));
        update(&control, vec![measured, late]).await;
        assert_eq!(device().await.last_telemetry, Some(at(39)));
        let counts = control.device_counts(None).await.expect("count");
        assert_eq!(counts, [(DeviceStatus::Offline, 1)]);
    })
    .await;
}

#[test]
fn updates_of_one_device_merge() {
    let mut note = beating("d", 10, json!({"firmware_version": "1"}));
    note.back = true;
    note.merge(beating("d", 5, json!({"firmware_version": "0"})));
    assert_eq!(note.at, at(10));
    let (ts, heartbeat) = note.heartbeat.clone().expect("one");
    assert_eq!((ts, heartbeat.firmware_version.as_deref()), (at(10), Some("1")));
    assert!(note.heard && note.back);
    let mut gone = DeviceUpdate::new("d", at(11));
    gone.status = vec![crate::status_step(DeviceStatus::Offline, 11)];
    gone.gone = true;
    note.merge(gone);
    assert_eq!(note.status.last().map(|s| (s.to, s.at)), Some((DeviceStatus::Offline, at(11))));
    assert!(!note.heard && !note.back, "what waits for it must go on waiting");
    for n in 0..9 {
        note.merge(registering("d", n, json!({"device_id": "d", "boot": n})));
    }
    assert_eq!(note.registrations.last().and_then(|r| r.boot), Some(8));
    assert!(note.registrations.len() < 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filter_sort_and_page_without_gaps() {
    on_both(async |control| {
        let group = GroupBody { name: "g".into(), ..GroupBody::default() };
        let group = control.create_group(&group, &by(0)).await.expect("group");
        for n in 0..7 {
            let mut new = named(&format!("d{n}"), if n % 2 == 0 { "even" } else { "odd" });
            new.tags = if n > 4 { vec!["high".into()] } else { vec![] };
            new.group_id = (n < 3).then_some(group);
            let Created::Done(made) = control.create_device(&new, &by(n)).await.expect("create")
            else {
                panic!("{new:?}")
            };
            assert_eq!(made.device.tags, new.tags);
            if n == 6 {
                let beat = json!({"firmware_version": "2.0"});
                update(&control, vec![beating("d6", 50, beat)]).await;
            }
        }
        let pages = async |filter: DeviceFilter| {
            let (mut ids, mut filter) = (Vec::new(), DeviceFilter { limit: 2, ..filter });
            loop {
                let (page, total) = control.devices(&filter, None).await.expect("list");
                let Some(last) = page.last() else { return ids };
                filter.after = Some(filter.next(last));
                ids.extend(page.into_iter().map(|d| d.device_id));
                assert!(i64::try_from(ids.len()).expect("small") <= total);
            }
        };
        let all = ["d0", "d1", "d2", "d3", "d4", "d5", "d6"];
        assert_eq!(pages(DeviceFilter::default()).await, all);
        for (name, sort) in DeviceSort::ALL {
            let up = pages(DeviceFilter { sort, ..DeviceFilter::default() }).await;
            let mut down =
                pages(DeviceFilter { sort, descending: true, ..DeviceFilter::default() }).await;
            assert_eq!(up.len(), 7, "{name}");
            down.reverse();
            assert_eq!(up, down, "{name}");
        }
        let by_name = pages(DeviceFilter { sort: DeviceSort::Name, ..DeviceFilter::default() });
        assert_eq!(by_name.await, ["d0", "d2", "d4", "d6", "d1", "d3", "d5"]);
        let q = |q: &str| DeviceFilter { q: Some(q.into()), ..DeviceFilter::default() };
        assert_eq!(pages(q("ODD")).await, ["d1", "d3", "d5"]);
        let umlaut = DeviceEdit { name: Some(Some("Übergabe".into())), ..DeviceEdit::default() };
        control.edit_device("d1", &umlaut, None, &by(60)).await.expect("edit");
        assert_eq!(pages(q("ÜBER")).await, ["d1"]);
        let back = DeviceEdit { name: Some(Some("odd".into())), ..DeviceEdit::default() };
        control.edit_device("d1", &back, None, &by(60)).await.expect("edit");
        assert!(pages(q("%")).await.is_empty(), "no wildcards from outside");
        let status = Some(DeviceStatus::Online);
        assert_eq!(pages(DeviceFilter { status, ..DeviceFilter::default() }).await, ["d6"]);
        let group_id = Some(group);
        assert_eq!(pages(DeviceFilter { group_id, ..DeviceFilter::default() }).await.len(), 3);
        let tag = Some("high".to_owned());
        assert_eq!(pages(DeviceFilter { tag, ..DeviceFilter::default() }).await, ["d5", "d6"]);
        let firmware_version = Some("2.0".to_owned());
        let of = DeviceFilter { firmware_version, ..DeviceFilter::default() };
        assert_eq!(pages(of).await, ["d6"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_holds_in_every_query() {
    on_both(async |control| {
        let group = GroupBody { name: "g".into(), ..GroupBody::default() };
        let group = control.create_group(&group, &by(0)).await.expect("group");
        for id in ["a", "b", "c"] {
            control.create_device(&named(id, id), &by(0)).await.expect("create");
        }
        let add = MembersChange { add: vec!["b".into()], remove: vec![] };
        assert_eq!(control.change_members(group, &add, None, &by(1)).await.expect("add"), None);
        let scope = |devices: &[&str], groups: &[Uuid]| Scope {
            device_ids: devices.iter().map(|d| (*d).to_owned()).collect(),
            group_ids: groups.to_vec(),
        };
        let seen = async |scope: &Scope| {
            let filter = DeviceFilter { limit: 10, ..DeviceFilter::default() };
            let (page, total) = control.devices(&filter, Some(scope)).await.expect("list");
            assert_eq!(i64::try_from(page.len()).expect("small"), total);
            let mut ids = control.scoped_device_ids(scope).await.expect("ids");
            ids.sort();
            let listed: Vec<String> = page.into_iter().map(|d| d.device_id).collect();
            assert_eq!(listed, ids);
            ids
        };
        assert_eq!(seen(&scope(&["a"], &[group])).await, ["a", "b"]);
        assert!(seen(&scope(&[], &[])).await.is_empty(), "an empty scope is nothing");
        let only_a = scope(&["a"], &[]);
        assert!(control.device("b", Some(&only_a)).await.expect("ask").is_none());
        let edited = control.edit_device("b", &DeviceEdit::default(), Some(&only_a), &by(1)).await;
        assert_eq!(edited.expect("ask"), Edited::NotFound);
        assert!(!control.delete_device("b", Some(&only_a), &by(1)).await.expect("ask"));
        assert!(control.group(group, Some(&only_a)).await.expect("ask").is_none());
        assert_eq!(control.groups(None, 9, Some(&only_a)).await.expect("list").1, 0);
        let stranger = control.change_members(group, &add, Some(&only_a), &by(1)).await;
        assert_eq!(stranger.expect("ask"), Some("b".to_owned()));
        assert_eq!(control.device_counts(Some(&only_a)).await.expect("count").len(), 1);
        // A scope of the old logger covers the new one, and the other way round.
        let replaced = control.replace_device("a", "a2", None, &by(2)).await.expect("replace");
        assert!(matches!(replaced, Replaced::Done(_)), "{replaced:?}");
        assert_eq!(seen(&only_a).await, ["a", "a2"]);
        assert_eq!(seen(&scope(&["a2"], &[])).await, ["a", "a2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_logger_takes_over_what_people_entered_about_the_old_one() {
    on_both(async |control| {
        let mut new = named("old", "Feeder 2");
        new.tags = vec!["roof".into()];
        new.nominal_voltage_v = Some(230.0);
        new.time_zone = Some("Africa/Johannesburg".into());
        control.create_device(&new, &by(0)).await.expect("create");
        let replaced = control.replace_device("old", "new", None, &by(5)).await.expect("replace");
        let Replaced::Done(made) = replaced else { panic!("{replaced:?}") };
        let device = &made.device;
        assert_eq!(device.name.as_deref(), Some("Feeder 2"));
        assert_eq!((device.nominal_voltage_v, device.tags.len()), (Some(230.0), 1));
        assert_eq!(device.replaces.as_deref(), Some("old"));
        let secrets = control.device_secrets().await.expect("ask");
        assert_eq!(secrets.get("old"), Some(&None), "the old one can't connect");
        assert_eq!(secrets.get("new"), Some(&Some(hash_secret(&made.credentials.password))));
        let old = control.device("old", None).await.expect("ask").expect("there");
        assert_eq!((old.replaced_by.as_deref(), old.replaced_at), (Some("new"), Some(at(5))));
        for (from, to) in [("old", "third"), ("new", "old"), ("new", "new")] {
            let again = control.replace_device(from, to, None, &by(6)).await.expect("ask");
            assert!(matches!(again, Replaced::Conflict(_)), "{from} {to}: {again:?}");
        }
        let none = control.replace_device("none", "x", None, &by(6)).await.expect("ask");
        assert!(matches!(none, Replaced::NotFound));
        assert!(control.device("third", None).await.expect("ask").is_none(), "nothing half made");
        // A device that is in use, or outside the scope of the caller, is refused.
        control.create_device(&named("busy", "Feeder 9"), &by(7)).await.expect("create");
        let taken = control.replace_device("new", "busy", None, &by(8)).await.expect("ask");
        assert!(matches!(taken, Replaced::Conflict(_)), "{taken:?}");
        update(&control, vec![DeviceUpdate::new("theirs", at(8))]).await;
        let only_new = Scope { device_ids: vec!["new".into()], group_ids: vec![] };
        let stolen = control.replace_device("new", "theirs", Some(&only_new), &by(8)).await;
        assert!(matches!(stolen.expect("ask"), Replaced::NotFound));
        let fresh = control.replace_device("new", "fresh", Some(&only_new), &by(8)).await;
        assert!(matches!(fresh.expect("ask"), Replaced::Done(_)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_deleted_device_opens_nothing_to_a_scope() {
    on_both(async |control| {
        for id in ["mine", "theirs"] {
            control.create_device(&named(id, id), &by(0)).await.expect("create");
        }
        assert!(control.delete_device("theirs", None, &by(1)).await.expect("delete"));
        let only_mine = Scope { device_ids: vec!["mine".into()], group_ids: vec![] };
        let taken = control.replace_device("mine", "theirs", Some(&only_mine), &by(2)).await;
        assert!(matches!(taken.expect("ask"), Replaced::NotFound));
        let taken = control.replace_device("mine", "theirs", None, &by(2)).await.expect("ask");
        assert!(matches!(taken, Replaced::Conflict(_)), "{taken:?}");
        assert!(control.device("theirs", None).await.expect("ask").is_none(), "nothing half made");

        // The id of a deleted logger no longer belongs to its former site either.
        for (old, new) in [("mine", "second"), ("second", "third")] {
            let replaced = control.replace_device(old, new, None, &by(3)).await.expect("replace");
            assert!(matches!(replaced, Replaced::Done(_)), "{replaced:?}");
        }
        assert!(control.delete_device("mine", None, &by(4)).await.expect("delete"));
        let seen = async |id: &str| {
            let scope = Scope { device_ids: vec![id.to_owned()], group_ids: vec![] };
            let mut ids = control.scoped_device_ids(&scope).await.expect("ids");
            ids.sort();
            ids
        };
        control.create_device(&named("mine", "another"), &by(5)).await.expect("create");
        assert_eq!(seen("mine").await, ["mine"]);
        assert_eq!(seen("third").await, ["second", "third"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_device_that_sends_again_is_new() {
    on_both(async |control| {
        let mut new = named("d", "Feeder");
        new.tags = vec!["t".into()];
        control.create_device(&new, &by(0)).await.expect("create");
        assert!(control.delete_device("d", None, &by(1)).await.expect("delete"));
        assert!(!control.delete_device("d", None, &by(1)).await.expect("again"));
        assert!(control.device("d", None).await.expect("ask").is_none());
        assert!(control.device_secrets().await.expect("ask").is_empty());
        update(&control, vec![beating("d", 9, json!({}))]).await;
        let back = control.device("d", None).await.expect("ask").expect("new");
        assert_eq!((back.name, back.tags.len(), back.created_at), (None, 0, at(9)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_created_all_or_none() {
    on_both(async |control| {
        control.create_device(&named("there", "x"), &by(0)).await.expect("create");
        let mut lost = named("lost", "x");
        lost.group_id = Some(Uuid::nil());
        let all = [named("a", "x"), named("there", "x"), lost, named("b", "x"), named("a", "x")];
        let made = control.create_devices(&all, &by(1)).await.expect("create");
        let [Created::Done(a), Created::Taken, Created::NoGroup, Created::Done(b), Created::Taken] =
            made.as_slice()
        else {
            panic!("{made:?}")
        };
        assert_ne!(a.credentials.password, b.credentials.password);
        assert!(control.device("lost", None).await.expect("ask").is_none());
        assert_eq!(control.device_ids().await.expect("ask").len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_secrets_are_rotated_and_revoked_and_their_version_changes() {
    on_both(async |control| {
        assert_eq!(control.credentials_version().await.expect("ask"), None);
        let first = control.rotate_device_secret("d1", &by(0)).await.expect("make");
        let version = control.credentials_version().await.expect("ask");
        let second = control.rotate_device_secret("d1", &by(1)).await.expect("rotate");
        assert_ne!(control.credentials_version().await.expect("ask"), version);
        assert_ne!(first, second);
        let secrets = control.device_secrets().await.expect("ask");
        assert_eq!(secrets.get("d1"), Some(&Some(hash_secret(&second))));
        assert!(!control.device("d1", None).await.expect("ask").expect("a row").registered);
        let off = DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
        control.edit_device("d1", &off, None, &by(2)).await.expect("disable");
        assert_eq!(control.device_secrets().await.expect("ask").get("d1"), Some(&None));
        assert!(control.revoke_device_secret("d1", &by(3)).await.expect("revoke"));
        assert!(!control.revoke_device_secret("d1", &by(3)).await.expect("none left"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_keeps_its_devices() {
    on_both(async |control| {
        let body = GroupBody { name: "North".into(), ..GroupBody::default() };
        let group = control.create_group(&body, &by(0)).await.expect("create");
        let taken = control.create_group(&body, &by(0)).await.expect_err("taken");
        assert_eq!(taken.kind(), acuvim_control::ErrorKind::Conflict);
        let mut new = named("d", "d");
        new.group_id = Some(Uuid::nil());
        let made = control.create_device(&new, &by(0)).await.expect("ask");
        assert!(matches!(made, Created::NoGroup));
        assert!(control.device("d", None).await.expect("ask").is_none(), "nothing half made");
        new.group_id = Some(group);
        control.create_device(&new, &by(0)).await.expect("create");
        let again = control.create_device(&new, &by(0)).await.expect("ask");
        assert!(matches!(again, Created::Taken));
        let found = control.group(group, None).await.expect("ask").expect("there");
        assert_eq!((found.name.as_str(), found.devices), ("North", 1));
        let body = GroupBody { nominal_voltage_v: Some(230.0), ..body };
        assert!(control.update_group(group, &body, &by(1)).await.expect("update"));
        assert_eq!(
            control.groups(None, 9, None).await.expect("list").0[0].nominal_voltage_v,
            Some(230.0)
        );
        assert!(control.delete_group(group, &by(2)).await.expect("delete"));
        assert!(!control.delete_group(group, &by(2)).await.expect("again"));
        let device = control.device("d", None).await.expect("ask").expect("stays");
        assert_eq!(device.group_id, None);
    })
    .await;
}
