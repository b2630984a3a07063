//! Commands: given once, moved forward by answers, ended by timeouts; configuration; groups; the outbox.

use acuvim_control::{
    Answer, Applied, Changes, Control, DeviceUpdate, Given, GroupGiven, Lease, NewCommand,
    OUTBOX_LEASE, OffsetMove, Outgoing, ReadUntil,
};
use acuvim_model::{
    CommandInfo, CommandStatus, Deliver, DeviceEdit, DeviceStatus, GroupBody, NewDevice,
};
use acuvim_wire::{
    command::{Delivery, Outcome},
    config::Section,
    payload::Response,
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{at, by, on_both};

fn command(device: &str, name: &str, params: Value) -> NewCommand {
    let Value::Object(params) = params else { panic!("an object") };
    NewCommand {
        device_id: device.into(),
        command: name.into(),
        params,
        deliver: Deliver::Now,
        first_timeout_s: 60,
        ack_timeout_s: 120,
        expires_s: 3600,
        idempotency_key: None,
        topic_prefix: "acuvim".into(),
        section: None,
        desired: true,
        group_command: None,
    }
}

fn config(device: &str, section: Section, values: &Value) -> NewCommand {
    let params = json!({"section": section.as_str(), "values": values});
    NewCommand { section: Some(section), ..command(device, "set_config", params) }
}

async fn device(control: &Control, id: &str) {
    let new = NewDevice { device_id: id.into(), ..NewDevice::default() };
    control.create_device(&new, &by(0)).await.expect("create");
}

async fn give(control: &Control, new: &NewCommand, second: i64) -> Uuid {
    match control.give_command(new, None, &by(second)).await.expect("give") {
        Given::Stored(accepted) => accepted.request_id,
        other => panic!("{other:?}"),
    }
}

async fn get(control: &Control, id: Uuid) -> CommandInfo {
    control.command(id, None).await.expect("ask").expect("there")
}

async fn apply(control: &Control, changes: Changes) {
    let expected = control.offset(0, 0).await.expect("ask");
    let next = expected.unwrap_or(0) + 1;
    let moves = vec![OffsetMove { partition: 0, expected, next }];
    let changes = Changes { moves, ..changes };
    assert_eq!(control.apply(0, &changes).await.expect("apply"), Applied::Done);
}

async fn answer(control: &Control, device: &str, id: &str, status: &str, second: i64) {
    let response: Response = serde_json::from_value(json!({
        "request_id": id, "status": status, "data": {"n": second, "password": "hunter22"},
        "error": "no such register"
    }))
    .expect("valid");
    let answer = Answer { device_id: device.into(), at: at(second), response };
    apply(control, Changes { answers: vec![answer], ..Changes::default() }).await;
}

async fn report(control: &Control, device: &str, request_id: Uuid, outcome: Outcome, second: i64) {
    report_of(control, device, (request_id, 1), outcome, second).await;
}

async fn report_of(
    control: &Control,
    device: &str,
    (request_id, attempt): (Uuid, i64),
    outcome: Outcome,
    second: i64,
) {
    let delivery = (device.to_owned(), Delivery { request_id, attempt, outcome }, at(second));
    apply(control, Changes { deliveries: vec![delivery], ..Changes::default() }).await;
}

async fn heard(control: &Control, device: &str, second: i64, back: bool) {
    let mut note = DeviceUpdate::new(device, at(second));
    (note.heard, note.back) = (true, back);
    note.status = vec![crate::status_step(DeviceStatus::Online, second)];
    apply(control, Changes { devices: vec![note], ..Changes::default() }).await;
}

async fn time_passes(control: &Control, second: i64) {
    let read_until = Some(ReadUntil { at: at(second), partition: 0, partitions: 1 });
    apply(control, Changes { read_until, ..Changes::default() }).await;
}

/// Numbers everything in the outbox, and returns it as delivered.
async fn delivered(control: &Control) -> Vec<Value> {
    let lease = lease(control, "test").await;
    let next = async |done| {
        let next = control.next_of_outbox(lease, "test", done, at(1)).await.expect("ask");
        next.expect("the lease")
    };
    let outgoing = next(None).await;
    next(outgoing.last().map(Outgoing::seq)).await;
    let json = |payload: &[u8]| serde_json::from_slice::<Value>(payload).expect("JSON");
    let command = |one: &Outgoing| match one {
        Outgoing::Command(command) => Some(json(&command.payload)),
        Outgoing::Event { .. } => None,
    };
    outgoing.iter().filter_map(command).collect()
}

async fn lease(control: &Control, holder: &str) -> Lease {
    let held = control.hold_lease(OUTBOX_LEASE, holder, at(0), TimeDelta::seconds(1000)).await;
    held.expect("ask").expect("free")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_and_its_outbox_row_are_stored_together_and_move_forward() {
    on_both(async |control| {
        device(&control, "d").await;
        let id = give(
            &control,
            &command("d", "wifi_set", json!({"ssid": "x", "password": "hunter22"})),
            10,
        )
        .await;
        let now = get(&control, id).await;
        assert_eq!((now.status, now.deadline), (CommandStatus::Pending, Some(at(70))));
        assert_eq!(now.params, json!({"ssid": "x", "password": "********"}));
        let out = delivered(&control).await;
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["params"]["password"], "hunter22", "the device gets it as it is");
        assert_eq!(out[0]["expires_at"], at(70).timestamp());
        assert!(!control.outbox_has_rows().await.expect("ask"));
        report(&control, "d", id, Outcome::Sent, 11).await;
        let now = get(&control, id).await;
        assert_eq!((now.status, now.sent_at), (CommandStatus::Sent, Some(at(11))));
        answer(&control, "d", &id.to_string(), "ack", 12).await;
        let now = get(&control, id).await;
        assert_eq!(
            (now.status, now.ack_at, now.deadline),
            (CommandStatus::Ack, Some(at(12)), Some(at(132)))
        );
        answer(&control, "d", &id.to_string(), "success", 14).await;
        let now = get(&control, id).await;
        assert_eq!(
            (now.status, now.finished_at, now.deadline),
            (CommandStatus::Success, Some(at(14)), None)
        );
        assert_eq!(now.response.as_ref().expect("kept")["data"]["password"], "********");
        let (audit, _) = control
            .audit(&acuvim_control::AuditFilter { limit: 9, ..Default::default() })
            .await
            .expect("audit");
        assert!(!serde_json::to_string(&audit).expect("JSON").contains("hunter22"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_effect_are_kept() {
    on_both(async |control| {
        device(&control, "d").await;
        device(&control, "e").await;
        let id = give(&control, &command("d", "ping", json!({})), 0).await;
        let text = id.to_string();
        answer(&control, "e", &text, "success", 1).await;
        assert_eq!(get(&control, id).await.status, CommandStatus::Pending, "another device");
        answer(&control, "d", &text, "error", 2).await;
        let now = get(&control, id).await;
        assert_eq!(
            (now.status, now.error.as_deref()),
            (CommandStatus::Error, Some("no such register"))
        );
        answer(&control, "d", &text.to_uppercase(), "success", 3).await;
        // A late report of `sent` sets its time, and the status does not move back.
        report(&control, "d", id, Outcome::Sent, 4).await;
        let now = get(&control, id).await;
        assert_eq!((now.status, now.sent_at), (CommandStatus::Error, Some(at(4))));
        let verdicts: Vec<&str> = now.other_answers.iter().map(|a| a.verdict.as_str()).collect();
        assert_eq!(verdicts, ["wrong_device", "repeated"]);

        let late = give(&control, &command("d", "ping", json!({})), 10).await;
        time_passes(&control, 69).await;
        assert_eq!(get(&control, late).await.status, CommandStatus::Pending);
        time_passes(&control, 70).await;
        assert_eq!(get(&control, late).await.status, CommandStatus::Timeout);
        answer(&control, "d", &late.to_string(), "success", 80).await;
        let now = get(&control, late).await;
        assert_eq!((now.status, now.finished_at), (CommandStatus::Timeout, Some(at(70))));
        assert_eq!(now.other_answers[0].verdict, "late");
        assert_eq!(now.other_answers[0].answer["status"], "success");
        // Answers to no command are kept too, up to a limit.
        for n in 0..120 {
            answer(&control, "d", &format!("what is this {n}"), "success", 90).await;
        }
        assert_eq!(get(&control, late).await.other_answers.len(), 0, "the newest hundred are kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_due_commands_of_the_own_partition_time_out() {
    on_both(async |control| {
        for id in ["d", "e"] {
            device(&control, id).await;
        }
        let acked = give(&control, &command("d", "sd_flush", json!({})), 0).await;
        answer(&control, "d", &acked.to_string(), "ack", 50).await;
        time_passes(&control, 100).await;
        assert_eq!(get(&control, acked).await.status, CommandStatus::Ack, "its own time since ack");
        time_passes(&control, 170).await;
        let now = get(&control, acked).await;
        assert_eq!((now.status, now.finished_at), (CommandStatus::Timeout, Some(at(170))));
        let id = give(&control, &command("e", "ping", json!({})), 200).await;
        let of = acuvim_wire::device::partition_of(b"e", 2);
        for (partition, status) in [(1 - of, CommandStatus::Pending), (of, CommandStatus::Timeout)]
        {
            let read_until = Some(ReadUntil { at: at(999), partition, partitions: 2 });
            apply(&control, Changes { read_until, ..Changes::default() }).await;
            assert_eq!(get(&control, id).await.status, status);
        }
        assert!(get(&control, id).await.error.expect("why").contains("nobody took it"));
        let out = delivered(&control).await;
        assert!(out.iter().all(|c| c["command"] != "ping"), "what is over does not go out");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_command_is_sent_once_when_its_device_is_heard() {
    on_both(async |control| {
        device(&control, "d").await;
        let waits = NewCommand { deliver: Deliver::WhenOnline, ..command("d", "ping", json!({})) };
        let id = give(&control, &waits, 0).await;
        assert!(delivered(&control).await.is_empty(), "the device is not there");
        time_passes(&control, 3000).await;
        heard(&control, "d", 3100, false).await;
        let out = delivered(&control).await;
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["expires_at"], at(3160).timestamp());
        heard(&control, "d", 3101, false).await;
        assert!(delivered(&control).await.is_empty(), "once");
        // Certainly not delivered: it waits again, and is sent again under the same id.
        report(&control, "d", id, Outcome::NoSubscriber, 3102).await;
        heard(&control, "d", 3103, false).await;
        assert!(delivered(&control).await.is_empty(), "not at every heartbeat");
        heard(&control, "d", 3103, true).await;
        let again = delivered(&control).await;
        assert_eq!((again.len(), &again[0]["request_id"]), (1, &json!(id)));
        report(&control, "d", id, Outcome::NoSubscriber, 3103).await;
        heard(&control, "d", 3103, true).await;
        assert!(delivered(&control).await.is_empty(), "that was said of the try before");
        report_of(&control, "d", (id, 2), Outcome::Sent, 3104).await;
        report_of(&control, "d", (id, 2), Outcome::NoSubscriber, 3105).await;
        heard(&control, "d", 3106, false).await;
        assert!(delivered(&control).await.is_empty(), "it was sent");
        let at_once = give(&control, &waits, 3110).await;
        assert_eq!(delivered(&control).await.len(), 1, "the device is online");
        answer(&control, "d", &at_once.to_string(), "success", 3111).await;

        let mut gone = DeviceUpdate::new("d", at(3200));
        gone.status = vec![crate::status_step(DeviceStatus::Offline, 3200)];
        gone.gone = true;
        apply(&control, Changes { devices: vec![gone], ..Changes::default() }).await;
        let over = give(&control, &waits, 3200).await;
        time_passes(&control, 6801).await;
        let now = get(&control, over).await;
        assert_eq!(now.status, CommandStatus::Timeout);
        assert!(now.error.expect("why").contains("did not come online"));
        heard(&control, "d", 6900, true).await;
        assert!(delivered(&control).await.is_empty(), "never late");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_cant_be_sent_are_refused() {
    on_both(async |control| {
        device(&control, "d").await;
        let ask =
            async |new: &NewCommand| control.give_command(new, None, &by(0)).await.expect("ask");
        assert_eq!(ask(&command("none", "ping", json!({}))).await, Given::NotFound);
        let large = command("d", "log_tail", json!({"x": "y".repeat(1000)}));
        let Given::TooLarge { bytes, max } = ask(&large).await else { panic!("too large") };
        assert!(bytes > 1024 && max == 1024);
        let keyed =
            NewCommand { idempotency_key: Some("k".into()), ..command("d", "ping", json!({})) };
        let Given::Stored(first) = ask(&keyed).await else { panic!("stored") };
        assert_eq!(ask(&keyed).await, Given::Again(first.clone(), None));
        let tomorrow = control.give_command(&keyed, None, &by(86_401)).await.expect("ask");
        assert!(matches!(tomorrow, Given::Stored(new) if new.request_id != first.request_id));
        let (one, two) = {
            let other = NewCommand { idempotency_key: Some("both".into()), ..keyed.clone() };
            tokio::join!(async { ask(&other).await }, async { ask(&other).await })
        };
        let id = |given: &Given| match given {
            Given::Stored(a) | Given::Again(a, _) => a.request_id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id(&one), id(&two), "the same key at the same moment");
        let off = DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
        control.edit_device("d", &off, None, &by(1)).await.expect("disable");
        assert_eq!(ask(&command("d", "ping", json!({}))).await, Given::Disabled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_confirmation_by_the_device_makes_desired_values_reported() {
    on_both(async |control| {
        device(&control, "d").await;
        let values = json!({"ssid": "plant", "password": "hunter22"});
        let id = give(&control, &config("d", Section::Wifi, &values), 0).await;
        let now = control.config("d").await.expect("ask");
        assert_eq!(now.desired["wifi"], json!({"ssid": "plant", "password": "********"}));
        assert_eq!(now.drift["wifi"], ["password", "ssid"]);
        assert!(now.reported.is_empty());
        answer(&control, "d", &id.to_string(), "error", 1).await;
        assert!(control.config("d").await.expect("ask").reported.is_empty());
        delivered(&control).await;
        // The device reconnects: its unconfirmed configuration is sent again.
        heard(&control, "d", 10, true).await;
        let out = delivered(&control).await;
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["params"]["values"], json!({"ssid": "plant", "password": "hunter22"}));
        heard(&control, "d", 11, true).await;
        assert!(delivered(&control).await.is_empty(), "one is on its way");
        let again = out[0]["request_id"].as_str().expect("an id").to_owned();
        answer(&control, "d", &again, "success", 12).await;
        let now = control.config("d").await.expect("ask");
        assert!(now.drift.is_empty());
        assert_eq!(now.reported["wifi"]["password"], "********");
        heard(&control, "d", 13, true).await;
        assert!(delivered(&control).await.is_empty(), "it has it");
        give(&control, &config("d", Section::Wifi, &json!({"ssid": "other"})), 20).await;
        let now = control.config("d").await.expect("ask");
        assert_eq!((now.version, &now.drift["wifi"]), (2, &vec!["ssid".to_owned()]));
        let (changes, total) = control.config_changes("d", None, 1).await.expect("history");
        assert_eq!((total, changes[0].version, changes[0].by.as_str()), (2, 2, "test"));
        let (first, _) = control.config_changes("d", Some(2), 1).await.expect("history");
        assert_eq!(first[0].values["password"], "********");
        control.replace_device("d", "new", None, &by(30)).await.expect("replace");
        let new = control.config("new").await.expect("ask");
        assert_eq!(new.desired["wifi"]["ssid"], "other");
        assert!(new.reported.is_empty(), "the new logger has confirmed nothing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_are_both_kept_and_a_large_one_is_sent_in_parts() {
    on_both(async |control| {
        device(&control, "d").await;
        let give = async |values: &Value| {
            let new = config("d", Section::Mqtt, values);
            control.give_command(&new, None, &by(0)).await.expect("give")
        };
        let (one, two, three) = (json!({"host": "a"}), json!({"port": 1883}), json!({"user": "u"}));
        let (one, two, three) = tokio::join!(give(&one), give(&two), give(&three));
        for given in [one, two, three] {
            assert!(matches!(given, Given::Stored(_)), "{given:?}");
        }
        let now = control.config("d").await.expect("ask");
        assert_eq!(now.desired["mqtt"], json!({"host": "a", "port": 1883, "user": "u"}));
        assert_eq!(now.version, 3);
        for (key, fill) in [("ca", "x"), ("cert", "y"), ("topic", "z")] {
            give(&json!({ key: fill.repeat(400) })).await;
        }
        time_passes(&control, 100).await;
        delivered(&control).await;
        heard(&control, "d", 101, false).await;
        assert!(delivered(&control).await.is_empty(), "it was tried a moment ago");
        heard(&control, "d", 101, true).await;
        let out = delivered(&control).await;
        assert_eq!(out.len(), 6, "value by value, since together they are too large: {out:?}");
        time_passes(&control, 200).await;
        heard(&control, "d", 800, false).await;
        assert_eq!(delivered(&control).await.len(), 6, "and again after a while");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_or_deleted_device_gets_no_more_commands() {
    on_both(async |control| {
        for id in ["off", "gone"] {
            device(&control, id).await;
        }
        let waits =
            |id| NewCommand { deliver: Deliver::WhenOnline, ..command(id, "ping", json!({})) };
        let mut given = Vec::new();
        for id in ["off", "gone"] {
            given.push(give(&control, &waits(id), 0).await);
            given.push(give(&control, &command(id, "ping", json!({})), 0).await);
        }
        let off = DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
        control.edit_device("off", &off, None, &by(1)).await.expect("disable");
        control.delete_device("gone", None, &by(1)).await.expect("delete");
        assert!(delivered(&control).await.is_empty());
        for id in ["off", "gone"] {
            heard(&control, id, 2, true).await;
        }
        assert!(delivered(&control).await.is_empty());
        for id in given {
            let now = get(&control, id).await;
            assert_eq!(now.status, CommandStatus::Error, "{now:?}");
            answer(&control, &now.device_id, &id.to_string(), "success", 3).await;
            assert_eq!(get(&control, id).await.status, CommandStatus::Error, "for good");
        }
        assert_eq!(control.prune(at(0)).await.expect("prune"), 0);
        assert!(control.prune(at(100)).await.expect("prune") >= 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_command_is_one_command_for_each_device_with_a_summary() {
    on_both(async |control| {
        let body = GroupBody { name: "g".into(), ..GroupBody::default() };
        let group = control.create_group(&body, &by(0)).await.expect("group");
        let ping = command("", "ping", json!({}));
        let ask = async |group| {
            control.give_group_command(group, &ping, None, &by(1)).await.expect("ask")
        };
        assert_eq!(ask(group).await, GroupGiven::Empty);
        assert_eq!(ask(Uuid::nil()).await, GroupGiven::NotFound);
        for n in 0..450 {
            let new = NewDevice {
                device_id: format!("d{n}"),
                group_id: Some(group),
                ..NewDevice::default()
            };
            control.create_device(&new, &by(0)).await.expect("create");
        }
        let off = DeviceEdit { enabled: Some(false), ..DeviceEdit::default() };
        control.edit_device("d7", &off, None, &by(1)).await.expect("disable");
        let keyed = NewCommand { idempotency_key: Some("k".into()), ..ping.clone() };
        let give = async || {
            let given = control.give_group_command(group, &keyed, None, &by(1)).await.expect("ask");
            let GroupGiven::Stored(given) = given else { panic!("stored") };
            given
        };
        let given = give().await;
        let again = give().await;
        assert_eq!((again.group_command, again.total), (given.group_command, given.total));
        assert_eq!((given.total, given.skipped.len()), (449, 1));
        assert_eq!(given.skipped[0].device_id, "d7");
        let summary = async || {
            control.group_command(given.group_command, None).await.expect("ask").expect("there")
        };
        let now = summary().await;
        assert_eq!((now.total, now.pending, now.done), (449, 449, false));
        let filter = acuvim_control::CommandFilter {
            group_command: Some(given.group_command),
            limit: 1,
            ..Default::default()
        };
        let (page, total) = control.commands(&filter, None).await.expect("list");
        assert_eq!(total, 449);
        answer(&control, &page[0].device_id, &page[0].request_id.to_string(), "success", 5).await;
        time_passes(&control, 100).await;
        let now = summary().await;
        assert_eq!((now.success, now.timeout, now.done), (1, 448, true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_numbered_without_gaps_by_one_holder() {
    on_both(async |control| {
        device(&control, "d").await;
        let first = lease(&control, "one").await;
        let next = async |lease, holder: &str, done, second| {
            control.next_of_outbox(lease, holder, done, at(second)).await.expect("ask")
        };
        // After the event that the device became known.
        for n in 0..2 {
            give(&control, &command("d", "ping", json!({})), n).await;
        }
        let numbers = next(first, "one", None, 1).await.expect("ours");
        let base = numbers[0].seq() - 1;
        let seqs = |outgoing: Vec<Outgoing>| {
            outgoing.iter().map(|one| one.seq() - base).collect::<Vec<_>>()
        };
        assert_eq!(seqs(next(first, "one", None, 1).await.expect("ours")), [1, 2, 3]);
        assert_eq!(seqs(next(first, "one", None, 1).await.expect("ours")), [1, 2, 3], "again");
        assert_eq!(seqs(next(first, "one", Some(base + 2), 1).await.expect("ours")), [3]);
        give(&control, &command("d", "ping", json!({})), 9).await;
        assert_eq!(seqs(next(first, "one", Some(base + 3), 1).await.expect("ours")), [4]);
        // The lease has expired, and another process has it.
        let second = control.hold_lease(OUTBOX_LEASE, "two", at(2000), TimeDelta::seconds(9)).await;
        let second = second.expect("ask").expect("ran out");
        assert!(next(first, "one", Some(base + 4), 2001).await.is_none());
        assert_eq!(seqs(next(second, "two", None, 2001).await.expect("theirs")), [4]);
    })
    .await;
}
