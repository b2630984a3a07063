use acuvim_model::{
    CommandStatus, Deliver, DeviceStatus, GroupBody, NewDevice,
    event::{CommandCompleted, Event},
};
use acuvim_wire::{
    command::{Delivery, Outcome},
    payload::{Registration, Response},
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    Answer, Changes, CommandFilter, Control, DeviceUpdate, Given, GroupGiven, NewCommand,
    ReadUntil, StatusStep,
    testing::{
        add_devices, apply, at, at_micros, audited, by, command, deliver, events, fresh,
        get_command, give, heard, new_device, ping, runtime, scope_of, sent, update,
    },
};

fn waits(device: &str) -> NewCommand {
    NewCommand { deliver: Deliver::WhenOnline, ..ping(device) }
}

fn keyed(device: &str, key: &str) -> NewCommand {
    NewCommand { idempotency_key: Some(key.into()), ..ping(device) }
}

async fn ask(control: &Control, new: &NewCommand) -> Given {
    control.give_command(new, None, &by(0)).await.expect("ask")
}

async fn answer(control: &Control, device: &str, second: i64, fields: Json) {
    let response: Response = serde_json::from_value(fields).expect("a response");
    let answer = Answer { device_id: device.into(), at: at(second), response };
    apply(control, Changes { answers: vec![answer], ..Changes::default() }).await;
}

async fn report(control: &Control, device: &str, id: Uuid, attempt: i64, outcome: Outcome, s: i64) {
    let delivery = Delivery { request_id: id, attempt, outcome };
    let deliveries = vec![(device.to_owned(), delivery, at(s))];
    apply(control, Changes { deliveries, ..Changes::default() }).await;
}

async fn time_passes(control: &Control, second: i64) {
    let read_until = Some(ReadUntil { at: at(second), partition: 0, partitions: 1 });
    apply(control, Changes { read_until, ..Changes::default() }).await;
}

async fn status(control: &Control, id: Uuid) -> CommandStatus {
    get_command(control, id).await.status
}

/// The ends of commands in the outbox.
async fn ends(control: &Control) -> Vec<CommandCompleted> {
    let end = |event| match event {
        Event::Command(end) => Some(*end),
        _ => None,
    };
    events(control).await.into_iter().filter_map(end).collect()
}

#[tokio::test]
async fn a_packet_of_exactly_the_limit_is_sent_and_one_byte_more_is_not() {
    let (_dir, control) = fresh().await;
    let register = async |limit: Option<u32>| {
        let fields = json!({"device_id": "d", "max_packet_bytes": limit});
        let registration: Registration = serde_json::from_value(fields).expect("a registration");
        let registrations = vec![registration];
        update(&control, DeviceUpdate { registrations, ..DeviceUpdate::new("d", at(0)) }).await;
    };
    register(None).await;
    let of = |text: usize| command("d", "log", json!({"x": "y".repeat(text)}));
    let Given::TooLarge { bytes, max } = ask(&control, &of(2000)).await else { panic!("large") };
    assert_eq!(max, 1024, "of a device that reported no limit");
    let fill = usize::try_from(2000 - (bytes - max)).expect("positive");
    assert!(matches!(ask(&control, &of(fill)).await, Given::Stored(_)));
    assert_eq!(ask(&control, &of(fill + 1)).await, Given::TooLarge { bytes: 1025, max: 1024 });
    register(Some(512)).await;
    assert_eq!(ask(&control, &of(fill)).await, Given::TooLarge { bytes: 1024, max: 512 });
    // What is sent is not larger than what was measured.
    let largest = sent(&control).await.iter().map(|body| body.to_string().len()).max();
    assert!(largest.is_some_and(|bytes| bytes < 1024), "{largest:?}");
}

#[tokio::test]
async fn a_key_is_of_one_caller_and_one_device_for_a_day() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let first = give(&control, &keyed("d", "k"), 0).await;
    let other = crate::By { id: Some(Uuid::from_u128(5)), ..by(0) };
    let theirs = control.give_command(&keyed("d", "k"), None, &other).await.expect("ask");
    assert!(matches!(theirs, Given::Stored(_)), "{theirs:?}");
    assert!(matches!(ask(&control, &keyed("e", "k")).await, Given::Stored(_)));
    assert!(matches!(ask(&control, &keyed("d", "K")).await, Given::Stored(_)));
    answer(&control, "d", 5, json!({"request_id": first, "status": "success"})).await;
    let again = async |now| {
        let by = crate::By { at: now, ..by(0) };
        control.give_command(&keyed("d", "k"), None, &by).await.expect("ask")
    };
    let Given::Again(accepted, None) = again(at_micros(86_399_999_999)).await else {
        panic!("the same")
    };
    let seen = (accepted.request_id, accepted.status);
    assert_eq!(seen, (first, CommandStatus::Success), "with what became of it");
    let Given::Stored(fresh) = again(at(86_400)).await else { panic!("a new one") };
    assert_ne!(fresh.request_id, first);
    assert_eq!(status(&control, first).await, CommandStatus::Success, "the old one stays");
    let outside = control.give_command(&keyed("d", "k"), Some(&scope_of(&["e"])), &by(1)).await;
    assert_eq!(outside.expect("ask"), Given::NotFound, "a key opens no device");
}

#[tokio::test]
async fn a_command_to_be_done_now_is_not_run_late() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &ping("d"), 0).await;
    assert_eq!(sent(&control).await[0]["expires_at"], at(60).timestamp());
    report(&control, "d", id, 1, Outcome::NoSubscriber, 1).await;
    // Sent again, it keeps the time limit from when it was given.
    update(&control, heard("d", 59, true)).await;
    assert_eq!(sent(&control).await[0]["expires_at"], at(60).timestamp());
    assert_eq!(get_command(&control, id).await.deadline, Some(at(60)));
    report(&control, "d", id, 2, Outcome::NoSubscriber, 59).await;
    update(&control, heard("d", 60, true)).await;
    assert!(sent(&control).await.is_empty(), "its time is over");
}

#[tokio::test]
async fn a_waiting_command_expires_at_the_device_with_its_own_limit() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let new = NewCommand { expires_s: 100, ..waits("d") };
    let id = give(&control, &new, 0).await;
    update(&control, heard("d", 70, true)).await;
    // 60 s to answer end at 130, but the device must not begin after 100.
    assert_eq!(sent(&control).await[0]["expires_at"], at(100).timestamp());
    assert_eq!(get_command(&control, id).await.deadline, Some(at(130)));
}

#[tokio::test]
async fn a_device_that_is_degraded_counts_as_away_and_one_online_gets_it_at_once() {
    let (_dir, control) = fresh().await;
    for (id, to, now) in [
        ("online", DeviceStatus::Online, 1),
        ("degraded", DeviceStatus::Degraded, 0),
        ("offline", DeviceStatus::Offline, 0),
    ] {
        let step = StatusStep { from: DeviceStatus::Offline, to, at: at(0), reason: "test" };
        let status = vec![step];
        update(&control, DeviceUpdate { status, ..DeviceUpdate::new(id, at(0)) }).await;
        sent(&control).await;
        give(&control, &waits(id), 1).await;
        assert_eq!(sent(&control).await.len(), now, "{id}");
    }
}

#[tokio::test]
async fn a_try_without_a_subscriber_is_repeated_after_half_a_minute() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let id = give(&control, &waits("d"), 0).await;
    update(&control, heard("e", 1, true)).await;
    assert!(sent(&control).await.is_empty(), "another device was heard");
    update(&control, heard("d", 1, false)).await;
    assert_eq!(sent(&control).await.len(), 1);
    report(&control, "d", id, 1, Outcome::NoSubscriber, 10).await;
    update(&control, heard("d", 39, false)).await;
    assert!(sent(&control).await.is_empty());
    update(&control, heard("d", 40, false)).await;
    assert_eq!(sent(&control).await.len(), 1);
    report(&control, "d", id, 1, Outcome::NoSubscriber, 41).await;
    update(&control, heard("d", 99, true)).await;
    assert!(sent(&control).await.is_empty(), "the report was of the first attempt");
    report(&control, "e", id, 2, Outcome::NoSubscriber, 41).await;
    update(&control, heard("d", 99, true)).await;
    assert!(sent(&control).await.is_empty(), "a report is of the command's own device");
}

#[tokio::test]
async fn a_timeout_says_how_far_the_command_got() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let give = async |new: NewCommand| give(&control, &new, 0).await;
    let untaken = give(ping("d")).await;
    let unconnected = give(ping("d")).await;
    let unanswered = give(ping("d")).await;
    let unfinished = give(ping("d")).await;
    let never_online = give(NewCommand { expires_s: 60, ..waits("d") }).await;
    sent(&control).await;
    report(&control, "d", unconnected, 1, Outcome::NoSubscriber, 1).await;
    report(&control, "d", unanswered, 1, Outcome::Sent, 1).await;
    answer(&control, "d", 2, json!({"request_id": unfinished, "status": "ack"})).await;
    time_passes(&control, 59).await;
    assert!(ends(&control).await.is_empty());
    time_passes(&control, 500).await;
    for (id, says, ended) in [
        (untaken, "nobody took it", 60),
        (unconnected, "not connected", 60),
        (unanswered, "did not answer in time", 60),
        (unfinished, "did not finish in time", 122),
        (never_online, "did not come online", 60),
    ] {
        let now = get_command(&control, id).await;
        assert_eq!((now.status, now.finished_at), (CommandStatus::Timeout, Some(at(ended))));
        assert!(now.error.as_deref().is_some_and(|e| e.contains(says)), "{says}: {now:?}");
    }
    assert_eq!(ends(&control).await.len(), 5);
}

#[tokio::test]
async fn more_commands_than_a_page_time_out_together() {
    let (_dir, control) = fresh().await;
    let ids: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
    add_devices(&control, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tx = control.begin().await.expect("begin");
    let mut mine = 0;
    for n in 0..502 {
        let id = &ids[n % 8];
        let given = super::give(&mut tx, &ping(id), None, &by(0)).await.expect("give");
        assert!(matches!(given, Given::Stored(_)));
        mine += i64::from(acuvim_wire::device::partition_of(id.as_bytes(), 2) == 0);
    }
    tx.commit().await.expect("commit");
    let expire = async |partition| {
        let read_until = Some(ReadUntil { at: at(60), partition, partitions: 2 });
        apply(&control, Changes { read_until, ..Changes::default() }).await;
        let over = CommandFilter { status: Some(CommandStatus::Timeout), ..Default::default() };
        control.commands(&over, None).await.expect("list").1
    };
    assert_eq!(expire(0).await, mine, "those of its own devices");
    assert_eq!(expire(1).await, 502, "and all in the end");
}

#[tokio::test]
async fn an_error_of_any_length_is_kept_and_its_event_stays_small() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    for (length, response) in [(600, true), (300 << 10, false)] {
        let id = give(&control, &ping("d"), 0).await;
        let text = "ü".repeat(length);
        let fields = json!({"request_id": id, "status": "error", "error": text});
        answer(&control, "d", 1, fields).await;
        let now = get_command(&control, id).await;
        assert_eq!(now.error.as_deref(), Some("ü".repeat(500).as_str()));
        let kept = now.response.expect("a response");
        assert_eq!(kept["error"] == json!(text), response, "whole, up to 256 KiB");
        assert_eq!(kept["too_large"] == json!(true), !response);
        let end = ends(&control).await.remove(0);
        assert!(serde_json::to_string(&end).expect("JSON").len() < 5000, "{length}");
    }
    let id = give(&control, &ping("d"), 0).await;
    answer(&control, "d", 1, json!({"request_id": id, "status": "error"})).await;
    assert_eq!(get_command(&control, id).await.error.as_deref(), Some("no reason given"));
}

#[tokio::test]
async fn an_answer_to_no_command_changes_none_and_is_kept_with_its_secrets_masked() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &ping("d"), 0).await;
    let long = "x".repeat(500);
    for other in [long.as_str(), "", "' OR 1=1 --", "00000000-0000-0000-0000-000000000000"] {
        let fields = json!({"request_id": other, "status": "success", "password": "hunter22"});
        answer(&control, "d", 1, fields).await;
    }
    assert_eq!(status(&control, id).await, CommandStatus::Pending);
    let kept = control.other_answers("d").await.expect("ask");
    assert!(kept.len() == 4 && kept.iter().all(|answer| answer.verdict == "unknown"));
    assert!(!serde_json::to_string(&kept).expect("JSON").contains("hunter22"));
    assert!(control.other_answers("e").await.expect("ask").is_empty());
}

#[tokio::test]
async fn an_answer_overtakes_the_report_that_the_command_was_sent() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &ping("d"), 0).await;
    answer(&control, "d", 3, json!({"request_id": id, "status": "ack"})).await;
    report(&control, "d", id, 1, Outcome::Sent, 4).await;
    let now = get_command(&control, id).await;
    assert_eq!((now.status, now.sent_at), (CommandStatus::Ack, Some(at(4))));
    report(&control, "d", id, 1, Outcome::NoSubscriber, 5).await;
    report(&control, "d", id, 1, Outcome::Sent, 6).await;
    let now = get_command(&control, id).await;
    assert_eq!((now.status, now.sent_at), (CommandStatus::Ack, Some(at(4))), "the first time");
    answer(&control, "d", 7, json!({"request_id": id, "status": "ack"})).await;
    assert_eq!(get_command(&control, id).await.deadline, Some(at(123)), "an ack extends it once");
}

#[tokio::test]
async fn a_refused_command_leaves_no_trace() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    deliver(&control).await;
    let before = audited(&control).await;
    let large = command("d", "log", json!({"x": "y".repeat(2000)}));
    assert!(matches!(ask(&control, &large).await, Given::TooLarge { .. }));
    assert_eq!(ask(&control, &ping("none")).await, Given::NotFound);
    assert!(deliver(&control).await.is_empty());
    assert_eq!(control.commands(&CommandFilter::default(), None).await.expect("list").1, 0);
    assert_eq!(audited(&control).await, before);
}

#[tokio::test]
async fn a_group_command_reaches_the_members_in_the_scope_and_names_the_others() {
    let (_dir, control) = fresh().await;
    let body = GroupBody { name: "g".into(), ..GroupBody::default() };
    let group = control.create_group(&body, &by(0)).await.expect("group");
    for id in ["a", "b", "c"] {
        let new = NewDevice { group_id: Some(group), ..new_device(id) };
        control.create_device(&new, &by(0)).await.expect("create");
    }
    let scope = scope_of(&["a"]);
    let outside = control.give_group_command(group, &ping(""), Some(&scope), &by(1)).await;
    assert_eq!(outside.expect("ask"), GroupGiven::NotFound, "the group itself is not in it");
    let give = async |new: &NewCommand, second| match control
        .give_group_command(group, new, None, &by(second))
        .await
        .expect("ask")
    {
        GroupGiven::Stored(given) => given,
        other => panic!("{other:?}"),
    };
    ask(&control, &keyed("b", "k")).await;
    let given = give(&keyed("", "k"), 1).await;
    let skipped: Vec<_> = given.skipped.iter().map(|s| s.device_id.as_str()).collect();
    assert_eq!((given.total, skipped), (2, vec!["b"]));
    assert!(given.skipped[0].reason.contains("idempotency_key"), "{:?}", given.skipped);
    let seen = control.group_command(given.group_command, Some(&scope)).await.expect("ask");
    assert_eq!(seen.map(|summary| (summary.total, summary.done)), Some((1, false)));
    let none = control.group_command(given.group_command, Some(&scope_of(&["b"]))).await;
    assert_eq!(none.expect("ask"), None);
    let large = give(&command("", "log", json!({"x": "y".repeat(2000)})), 2).await;
    assert_eq!((large.total, large.skipped.len()), (0, 3));
    assert!(large.skipped[0].reason.contains("it takes 1024"), "{:?}", large.skipped);
    let entries = audited(&control).await;
    assert_eq!(entries.iter().filter(|e| e.action == "group.command").count(), 2, "one each");
}

#[tokio::test]
async fn pages_of_commands_hold_each_once() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let mut given = Vec::new();
    for n in 0..7 {
        given.push(give(&control, &ping("d"), n).await);
        give(&control, &ping("e"), n).await;
    }
    given.reverse();
    let mut filter =
        CommandFilter { device_id: Some("d".into()), limit: 3, ..CommandFilter::default() };
    let mut seen = Vec::new();
    loop {
        let (page, total) = control.commands(&filter, None).await.expect("list");
        assert_eq!(total, 7);
        let Some(last) = page.last() else { break };
        filter.before = Some(last.request_id);
        seen.extend(page.into_iter().map(|command| command.request_id));
    }
    assert_eq!(seen, given, "newest first");
}

/// What can happen to a command, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Answer(&'static str),
    Sent,
    Nobody,
    Heard(bool),
    Passes(i64),
    Cancelled,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        prop::sample::select(vec!["ack", "success", "error"]).prop_map(Happening::Answer),
        Just(Happening::Sent),
        Just(Happening::Nobody),
        any::<bool>().prop_map(Happening::Heard),
        (1..80_i64).prop_map(Happening::Passes),
        Just(Happening::Cancelled),
    ];
    prop::collection::vec(one, 1..9)
}

/// Whatever happens to a command: it ends at most once, its end is one event, it is sent under growing
/// attempts, and nothing is sent after its end.
#[test]
fn a_command_has_one_end() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    runtime.block_on(add_devices(&control, &["d"]));
    let clock = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(64), |(all in happenings(), online in any::<bool>())| {
        runtime.block_on(async {
            // Far enough for every command of the case before to be over.
            let mut now = clock.get() + 10_000;
            time_passes(&control, now).await;
            deliver(&control).await;
            let new = if online { ping("d") } else { waits("d") };
            let id = give(&control, &new, now).await;
            let (mut attempt, mut ended, mut end) = (0, 0, None);
            for one in all {
                now += 1;
                match one {
                    Happening::Answer(status) => {
                        let fields = json!({"request_id": id, "status": status});
                        answer(&control, "d", now, fields).await;
                    }
                    Happening::Sent => report(&control, "d", id, attempt, Outcome::Sent, now).await,
                    Happening::Nobody => {
                        report(&control, "d", id, attempt, Outcome::NoSubscriber, now).await;
                    }
                    Happening::Heard(back) => update(&control, heard("d", now, back)).await,
                    Happening::Passes(seconds) => {
                        now += seconds;
                        time_passes(&control, now).await;
                    }
                    Happening::Cancelled => {
                        let mut tx = control.begin().await.expect("begin");
                        tx.take_back_command(id, &by(now)).await.expect("cancel");
                        tx.commit().await.expect("commit");
                    }
                }
                for outgoing in deliver(&control).await {
                    match outgoing {
                        crate::Outgoing::Command(command) => {
                            prop_assert!(end.is_none(), "sent after its end");
                            prop_assert_eq!(command.attempt, attempt + 1);
                            attempt = command.attempt;
                        }
                        crate::Outgoing::Event { event: Event::Command(_), .. } => ended += 1,
                        crate::Outgoing::Event { .. } => {}
                    }
                }
                let command = get_command(&control, id).await;
                let is_over = command.status.is_final();
                prop_assert_eq!(ended, i32::from(is_over));
                prop_assert_eq!(command.finished_at.is_some(), is_over);
                prop_assert_eq!(command.deadline.is_none(), is_over);
                if let Some(end) = end.filter(|_| is_over) {
                    prop_assert_eq!(end, (command.status, command.finished_at));
                }
                end = is_over.then_some((command.status, command.finished_at));
            }
            clock.set(now);
            Ok(())
        })?;
    });
}
