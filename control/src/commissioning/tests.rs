use acuvim_model::{
    CommandStatus, DeviceEdit, GroupBody, NewDevice,
    event::{AlertStep, Event, alert_id},
};
use uuid::Uuid;

use super::{Created, Edited, Replaced};
use crate::{
    AlertChange, AlertFilter, Changes, Control, DeviceFilter, NewAlert, Outgoing,
    testing::{
        add_devices, apply, at, audited, by, command, deliver, device_events, events, fresh,
        get_command, get_device, give, new_device, ping, scope_of, sent,
    },
};

async fn edit(control: &Control, id: &str, edit: DeviceEdit, second: i64) -> Edited {
    control.edit_device(id, &edit, None, &by(second)).await.expect("edit")
}

async fn replace(control: &Control, old: &str, new: &str, second: i64) -> Replaced {
    control.replace_device(old, new, None, &by(second)).await.expect("replace")
}

async fn found(control: &Control, filter: DeviceFilter) -> Vec<String> {
    let filter = DeviceFilter { limit: 99, ..filter };
    let (page, _) = control.devices(&filter, None).await.expect("list");
    page.into_iter().map(|device| device.device_id).collect()
}

fn named(name: Option<&str>) -> DeviceEdit {
    DeviceEdit { name: Some(name.map(str::to_owned)), ..DeviceEdit::default() }
}

#[tokio::test]
async fn an_edit_changes_what_it_names_and_empties_what_it_names_as_null() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let all = DeviceEdit {
        description: Some(Some("in the cellar".into())),
        nominal_voltage_v: Some(Some(230.0)),
        counter_end: Some(Some(1e8)),
        tags: Some(Some(vec!["roof".into(), "roof".into(), "north".into()])),
        ..named(Some("Feeder"))
    };
    edit(&control, "d", all, 1).await;
    let Edited::Done(now) = edit(&control, "d", DeviceEdit::default(), 2).await else {
        panic!("there")
    };
    assert_eq!((now.name.as_deref(), now.nominal_voltage_v), (Some("Feeder"), Some(230.0)));
    assert_eq!((now.enabled, now.updated_at), (true, at(2)));
    let tag = |tag: &str| DeviceFilter { tag: Some(tag.into()), ..DeviceFilter::default() };
    assert_eq!(found(&control, tag("roof")).await, ["d"]);
    let empty = DeviceEdit { tags: Some(None), nominal_voltage_v: Some(None), ..named(None) };
    edit(&control, "d", empty, 3).await;
    let now = get_device(&control, "d").await;
    assert_eq!((now.name, now.nominal_voltage_v, now.counter_end), (None, None, Some(1e8)));
    assert_eq!(now.description.as_deref(), Some("in the cellar"));
    assert!(now.tags.is_empty() && found(&control, tag("roof")).await.is_empty());
    let q = DeviceFilter { q: Some("feeder".into()), ..DeviceFilter::default() };
    assert!(found(&control, q).await.is_empty(), "an old name is not found any more");
}

#[tokio::test]
async fn an_edit_with_an_unknown_group_changes_nothing_else_either() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let before = (get_device(&control, "d").await, audited(&control).await);
    let wrong = DeviceEdit { group_id: Some(Some(Uuid::now_v7())), ..named(Some("x")) };
    assert_eq!(edit(&control, "d", wrong, 1).await, Edited::NoGroup);
    assert_eq!(edit(&control, "none", named(None), 1).await, Edited::NotFound);
    assert_eq!((get_device(&control, "d").await, audited(&control).await), before);
}

#[tokio::test]
async fn disabling_ends_open_commands_once_and_each_end_is_an_event() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let (one, other) = (give(&control, &ping("d"), 1).await, give(&control, &ping("e"), 1).await);
    let off = || DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
    edit(&control, "d", off(), 2).await;
    edit(&control, "d", off(), 3).await;
    let ended = get_command(&control, one).await;
    assert_eq!((ended.status, ended.finished_at), (CommandStatus::Error, Some(at(2))));
    assert_eq!(ended.error.as_deref(), Some("the device was disabled"));
    assert_eq!(get_command(&control, other).await.status, CommandStatus::Pending);
    let out = deliver(&control).await;
    let commands = out.iter().filter(|one| matches!(one, Outgoing::Command(_))).count();
    assert_eq!(commands, 1, "that of the other device");
    let is_end = |outgoing: &&Outgoing| match outgoing {
        Outgoing::Event { event: Event::Command(end), .. } => end.request_id == one,
        _ => false,
    };
    assert_eq!(out.iter().filter(is_end).count(), 1);
}

#[tokio::test]
async fn of_several_new_devices_the_impossible_ones_are_left_out_one_by_one() {
    let (_dir, control) = fresh().await;
    let group = GroupBody { name: "g".into(), ..GroupBody::default() };
    let group = control.create_group(&group, &by(0)).await.expect("group");
    let lost = NewDevice { group_id: Some(Uuid::now_v7()), ..new_device("lost") };
    let placed = NewDevice { group_id: Some(group), tags: vec!["t".into()], ..new_device("b") };
    let all = [new_device("a"), lost, new_device("a"), placed];
    let made = control.create_devices(&all, &by(1)).await.expect("create");
    let [Created::Done(_), Created::NoGroup, Created::Taken, Created::Done(b)] = &made[..] else {
        panic!("{made:?}")
    };
    assert_eq!((b.device.group_id, b.device.tags.as_slice()), (Some(group), &["t".to_owned()][..]));
    assert!(control.is_device_secret("b", &b.credentials.password).await.expect("ask"));
    assert_eq!(device_events(&control).await, ["registered entered", "registered entered"]);
    let audit = audited(&control).await;
    assert_eq!(audit.iter().filter(|entry| entry.action == "device.create").count(), 2);
    let text = serde_json::to_string(&audit).expect("JSON");
    assert!(!text.contains(&b.credentials.password));
}

#[tokio::test]
async fn a_deleted_device_leaves_its_finished_commands_and_nothing_that_is_sent() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let values = serde_json::json!({"section": "wifi", "values": {"ssid": "plant"}});
    let set = crate::NewCommand {
        section: Some(acuvim_wire::config::Section::Wifi),
        ..command("d", "set_config", values)
    };
    let id = give(&control, &set, 1).await;
    assert!(control.delete_device("d", None, &by(2)).await.expect("delete"));
    let ended = get_command(&control, id).await;
    assert_eq!(ended.error.as_deref(), Some("the device was deleted"));
    assert!(sent(&control).await.is_empty());
    let config = control.config("d").await.expect("ask");
    assert!(config.desired.is_empty() && config.version == 0);
    assert_eq!(control.config_changes("d", None, 9).await.expect("ask").1, 0);
    add_devices(&control, &["d"]).await;
    let back = crate::testing::heard("d", 3, true);
    crate::testing::update(&control, back).await;
    assert!(sent(&control).await.is_empty(), "a new device of that id gets nothing of the old one");
}

#[tokio::test]
async fn alerts_of_a_device_that_is_gone_are_resolved_so_that_nobody_is_reminded_for_ever() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["deleted", "replaced", "other"]).await;
    let raise = |device: &str| {
        let id = alert_id(device, "offline", 0);
        AlertChange::Raise(Box::new(NewAlert::of_health(id, device, "offline", at(1))))
    };
    let alerts = ["deleted", "replaced", "other"].map(raise).to_vec();
    apply(&control, Changes { alerts, now: at(1), ..Changes::default() }).await;
    events(&control).await;
    assert!(control.delete_device("deleted", None, &by(5)).await.expect("delete"));
    assert!(matches!(replace(&control, "replaced", "new", 6).await, Replaced::Done(_)));
    let filter = AlertFilter { limit: 9, ..AlertFilter::default() };
    let (mut all, _) = control.alerts(&filter, None).await.expect("list");
    all.sort_by_key(|alert| alert.device_id.clone());
    let ends =
        all.iter().map(|a| (a.resolved_at, a.resolved_by.as_deref(), a.resolution.as_deref()));
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [
            (Some(at(5)), Some("test"), Some("resolved")),
            (None, None, None),
            (Some(at(6)), Some("test"), Some("resolved")),
        ]
    );
    let steps = events(&control).await.into_iter().filter_map(|event| match event {
        Event::Alert(event) => Some((event.step, event.note)),
        _ => None,
    });
    let resolved = |note: &str| (AlertStep::Resolved, Some(note.to_owned()));
    let wanted = [resolved("the device was deleted"), resolved("the device was replaced")];
    assert_eq!(steps.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_replacement_takes_over_settings_and_leaves_the_old_device_as_history() {
    let (_dir, control) = fresh().await;
    let group = GroupBody { name: "g".into(), ..GroupBody::default() };
    let group = control.create_group(&group, &by(0)).await.expect("group");
    let old = NewDevice {
        name: Some("Feeder".into()),
        group_id: Some(group),
        counter_end: Some(1e8),
        ..new_device("old")
    };
    control.create_device(&old, &by(0)).await.expect("create");
    let open = give(&control, &ping("old"), 1).await;
    let Replaced::Done(made) = replace(&control, "old", "new", 5).await else { panic!("done") };
    assert_eq!((made.device.group_id, made.device.counter_end), (Some(group), Some(1e8)));
    assert!(made.device.enabled);
    let before = get_device(&control, "old").await;
    assert_eq!((before.enabled, before.group_id), (false, None), "a group command skips it");
    assert_eq!((before.name.as_deref(), before.updated_at), (Some("Feeder"), at(5)));
    assert_eq!(get_command(&control, open).await.error.as_deref(), Some("the device was replaced"));
    assert!(control.is_device_secret("new", &made.credentials.password).await.expect("ask"));
    // Deleting the one in the middle of a chain leaves the others at their site.
    assert!(matches!(replace(&control, "new", "newest", 6).await, Replaced::Done(_)));
    assert!(control.delete_device("new", None, &by(7)).await.expect("delete"));
    assert_eq!(get_device(&control, "newest").await.replaces, None);
    assert_eq!(get_device(&control, "old").await.replaced_by, None);
    let mut site = control.scoped_device_ids(&scope_of(&["old"])).await.expect("ids");
    site.sort();
    assert_eq!(site, ["newest", "old"]);
}

#[tokio::test]
async fn a_device_that_was_disabled_works_once_it_takes_the_place_of_another() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["old", "spare"]).await;
    let off = DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
    edit(&control, "spare", off, 1).await;
    let Replaced::Done(made) = replace(&control, "old", "spare", 2).await else { panic!("done") };
    assert!(made.device.enabled);
    assert!(control.is_device_secret("spare", &made.credentials.password).await.expect("ask"));
}
