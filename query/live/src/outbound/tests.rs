use proptest::prelude::*;

use super::*;
use crate::{
    event::{EventMessage, EventOffset},
    position::StreamPosition,
};

const LIMITS: QueueLimits =
    QueueLimits { events: 50, bytes: 1000, readings: 4, subscriptions: 3, devices: 5 };

fn event(n: i64, device: &str) -> Arc<LiveEvent> {
    let message = EventMessage {
        kind: EventKind::AlertCreated,
        device: Some(device.into()),
        arguments: vec![],
    };
    Arc::new(LiveEvent::new(
        message,
        StreamPosition::default(),
        EventOffset { partition: 0, offset: n },
    ))
}

fn of_system() -> Arc<LiveEvent> {
    let message = EventMessage { kind: EventKind::AlertCreated, device: None, arguments: vec![] };
    Arc::new(LiveEvent::new(message, StreamPosition::default(), EventOffset::default()))
}

fn reading(device: &str, n: u32) -> Arc<Reading> {
    Arc::new(Reading::telemetry(device.into(), format!("{n}"), vec![]))
}

fn devices(ids: &[&str]) -> HashSet<Arc<str>> {
    ids.iter().map(|&id| Arc::from(id)).collect()
}

fn asked(ids: &[&str]) -> (EventFilter, Visible) {
    let devices = devices(ids);
    (EventFilter { devices: devices.clone(), ..EventFilter::default() }, Some(Arc::new(devices)))
}

fn whole(interval: u64) -> Outbound {
    let interval = Duration::from_secs(interval);
    Outbound::new(LIMITS, None, EventFilter { whole: true, interval, ..EventFilter::default() })
}

fn readings(out: &[Out]) -> Vec<String> {
    let id = |out: &Out| match out {
        Out::Reading(reading, _) => Some(reading.device.to_string()),
        _ => None,
    };
    let mut ids: Vec<String> = out.iter().filter_map(id).collect();
    ids.sort();
    ids
}

fn missed(out: &[Out]) -> Option<&Missed> {
    out.iter().find_map(|out| match out {
        Out::Missed(missed) => Some(missed),
        _ => None,
    })
}

proptest! {
    /// However readings and takes mix: every event once, in order, or the client is too slow.
    #[test]
    fn events_are_all_taken_in_order(steps in proptest::collection::vec(0_u8..4, 0..200), most in 1_usize..9) {
        let (mut out, now) = (whole(0), Instant::now());
        let (mut given, mut got) = (0, Vec::new());
        let mut offsets = |out: Vec<Out>| got.extend(out.into_iter().filter_map(|o| match o {
            Out::Event(event) => Some(event.at.offset),
            _ => None,
        }));
        for step in steps {
            match step {
                0 => offsets(out.take(now, most)),
                1 => { out.offer_reading(&reading("d", 0), now); }
                _ => match out.offer(&event(given, "d")) {
                    Ok(_) => given += 1,
                    Err(TooSlow) => {
                        prop_assert!(out.events.len() == LIMITS.events);
                        break;
                    }
                },
            }
        }
        while out.due(now).is_some_and(|due| due <= now) {
            offsets(out.take(now, most));
        }
        prop_assert_eq!(got, (0..given).collect::<Vec<_>>());
    }

    /// What waits never grows beyond its bound, and what was taken or lost adds up.
    #[test]
    fn readings_are_bounded_and_counted(offers in proptest::collection::vec(0_u32..9, 0..100)) {
        let (mut out, now) = (whole(0), Instant::now());
        let _ = out.take(now, 10);
        for n in &offers {
            out.offer_reading(&reading(&n.to_string(), *n), now);
            prop_assert!(out.subscriptions[0].len() <= LIMITS.readings);
        }
        let taken = out.take(now, 100);
        let lost = missed(&taken).map_or(0, |m| m.dropped + m.merged);
        let merged = if missed(&taken).is_some() { 0 } else { out.merged };
        prop_assert_eq!(readings(&taken).len() as u64 + lost + merged, offers.len() as u64);
    }
}

#[test]
fn a_device_is_told_once_in_an_interval_and_then_its_newest() {
    let (mut out, start) = (whole(5), Instant::now());
    out.offer_reading(&reading("a", 1), start);
    assert_eq!(readings(&out.take(start, 10)), ["a"]);
    out.offer_reading(&reading("a", 2), start);
    out.offer_reading(&reading("a", 3), start);
    assert_eq!(out.due(start), Some(start + Duration::from_secs(5)));
    assert!(out.take(start, 10).is_empty());
    assert!(out.merged == 0, "it is thinned as it asked to be, and lost nothing by being slow");
    let taken = out.take(start + Duration::from_secs(5), 10);
    let newest =
        |out: &Out| matches!(out, Out::Reading(r, None) if Arc::ptr_eq(&r.device, &r.device));
    assert!(taken.len() == 1 && newest(&taken[0]));
    let Out::Reading(reading, _) = &taken[0] else { panic!("a reading") };
    assert!(String::from_utf8_lossy(&reading.hub(None)).contains('3'), "the newest");
}

#[test]
fn a_slow_client_is_told_how_much_it_missed() {
    let (mut out, now) = (whole(0), Instant::now());
    for device in ["a", "b", "c", "d", "e", "f"] {
        out.offer_reading(&reading(device, 1), now);
    }
    out.offer_reading(&reading("a", 2), now);
    let taken = out.take(now, 2);
    assert_eq!(missed(&taken), Some(&Missed { dropped: 2, merged: 1, gap: None }));
    assert_eq!(readings(&out.take(now, 10)).len(), 3);
}

#[test]
fn the_last_subscription_of_a_device_says_how_it_is_told() {
    let (mut out, now) = (whole(5), Instant::now());
    assert!(out.is_default());
    let everything =
        EventFilter { whole: true, interval: Duration::from_secs(60), ..EventFilter::default() };
    out.subscribe(everything, None).expect("a subscription");
    let (one, covers) = asked(&["a"]);
    out.subscribe(EventFilter { fields: Some(["x"].into()), ..one }, covers).expect("another");
    assert!(!out.is_default());
    let _ = out.take(now, 10);
    for _ in 0..2 {
        out.offer_reading(&reading("a", 1), now);
        out.offer_reading(&reading("b", 1), now);
        let taken = out.take(now, 10);
        assert!(readings(&taken).contains(&"a".to_owned()));
        assert!(taken.iter().any(|o| matches!(o, Out::Reading(_, Some(f)) if f.as_ref() == ["x"])));
    }
    assert_eq!(out.offer(&event(1, "b")), Ok(true), "once, however many cover it");
    assert_eq!(out.unsubscribe(&["a".to_owned()], &[], false), 1);
    assert_eq!(out.unsubscribe(&[], &[], true), 0);
    assert_eq!(out.offer(&event(2, "b")), Ok(false), "nothing is asked for any more");
}

#[test]
fn nobody_gets_what_they_do_not_see() {
    let seen: Visible = Some(Arc::new(devices(&["a"])));
    let default = EventFilter { whole: true, ..EventFilter::default() };
    let mut out = Outbound::new(LIMITS, seen, default);
    assert_eq!(out.offer(&event(1, "a")), Ok(true));
    assert_eq!(out.offer(&event(2, "b")), Ok(false));
    assert_eq!(out.offer(&of_system()), Ok(false), "what is of no device takes a view of all");
    assert!(!out.offer_reading(&reading("b", 1), Instant::now()));
    let number = out.filters().next().expect("the default").0;
    out.cover(&HashMap::from([(number, Some(Arc::new(devices(&["b"]))))]), false);
    assert!(out.take(Instant::now(), 10).is_empty(), "what waited is not theirs any more");
    out.cover(&HashMap::from([(number, None)]), true);
    assert_eq!(out.offer(&of_system()), Ok(true));
}

#[test]
fn subscriptions_are_bounded() {
    let mut out = whole(5);
    let (many, covers) = asked(&["1", "2", "3", "4", "5", "6"]);
    assert!(out.subscribe(many, covers).is_err_and(|e| e.contains("up to 5 devices")));
    for _ in 0..3 {
        let (one, covers) = asked(&["1"]);
        out.subscribe(one, covers).expect("room");
    }
    let (one, covers) = asked(&["1"]);
    assert!(out.subscribe(one, covers).is_err_and(|e| e.contains("up to 3 subscriptions")));
}

#[test]
fn what_a_client_leaves_lying_closes_it_alone() {
    let mut out = whole(5);
    for n in 0..50 {
        assert_eq!(out.offer(&event(n, "a")), Ok(true));
    }
    assert_eq!(out.offer(&event(50, "a")), Err(TooSlow));
    out.clear();
    assert_eq!(out.due(Instant::now()), None);
}

#[test]
fn a_first_subscription_that_is_refused_changes_nothing() {
    let (mut out, now) = (whole(0), Instant::now());
    out.offer_reading(&reading("z", 1), now);
    let (many, covers) = asked(&["1", "2", "3", "4", "5", "6"]);
    out.check_room(&many).expect_err("too many devices");
    out.subscribe(many, covers).expect_err("too many devices");
    assert!(out.is_default(), "the next one is still its first");
    assert_eq!(out.offer(&event(1, "z")), Ok(true), "until then it gets everything");
    assert_eq!(readings(&out.take(now, 10)), ["z"]);
    let (one, covers) = asked(&["1"]);
    out.subscribe(one, covers).expect("room");
    assert_eq!(out.offer(&event(2, "z")), Ok(false), "the default is replaced");
}

#[test]
fn the_default_takes_no_room_from_the_first_subscription() {
    let limits = QueueLimits { subscriptions: 1, devices: 1, ..LIMITS };
    let everything = || EventFilter { whole: true, ..EventFilter::default() };
    let mut out = Outbound::new(limits, None, everything());
    let (one, covers) = asked(&["1"]);
    out.subscribe(one, covers).expect("room for one");
    out.subscribe(everything(), None).expect_err("and for no other");
}

#[test]
fn to_unsubscribe_from_a_device_does_not_end_the_default() {
    let mut out = whole(0);
    assert_eq!(out.unsubscribe(&["a".to_owned()], &[], false), 1);
    assert!(out.is_default());
    let (one, covers) = asked(&["b"]);
    out.subscribe(one, covers).expect("room");
    assert_eq!(out.filters().count(), 1, "the first subscription replaces it");
    assert_eq!(out.offer(&event(1, "a")), Ok(false));
    let mut silent = whole(0);
    assert_eq!(silent.unsubscribe(&[], &[], true), 0);
    assert!(!silent.is_default(), "a client that wants nothing has said so");
    assert_eq!(silent.offer(&event(1, "a")), Ok(false));
}

#[test]
fn a_group_that_is_removed_leaves_the_devices_of_the_subscription() {
    let (mut out, group) = (whole(0), Uuid::from_u128(7));
    let (one, covers) = asked(&["a"]);
    out.subscribe(EventFilter { groups: [group].into(), ..one }, covers).expect("room");
    assert_eq!(out.unsubscribe(&[], &[group, Uuid::nil()], false), 1);
    assert_eq!(out.unsubscribe(&["a".to_owned()], &[], false), 0, "nothing is left of it");
}

#[test]
fn a_kind_that_was_not_asked_for_does_not_come() {
    let mut out = whole(0);
    let kinds = Some([EventKind::AlertCreated].into());
    out.subscribe(EventFilter { whole: true, kinds, ..EventFilter::default() }, None)
        .expect("room");
    assert!(out.wants(EventKind::AlertCreated, Some("a")));
    assert!(!out.wants(EventKind::AlertResolved, Some("a")));
    assert!(!out.offer_reading(&reading("a", 1), Instant::now()));
    assert!(out.take(Instant::now(), 10).is_empty());
}

#[test]
fn the_bytes_of_what_waits_are_bounded_too() {
    let large = |n: i64| {
        let arguments = vec![("x", "x".repeat(400))];
        let kind = EventKind::AlertCreated;
        let message = EventMessage { kind, device: Some("a".into()), arguments };
        let at = EventOffset { partition: 0, offset: n };
        Arc::new(LiveEvent::new(message, StreamPosition::default(), at))
    };
    let (mut out, now) = (whole(0), Instant::now());
    assert_eq!((out.offer(&large(1)), out.offer(&large(2))), (Ok(true), Ok(true)));
    assert_eq!(out.offer(&large(3)), Err(TooSlow), "1200 of 1000 bytes");
    assert_eq!(out.take(now, 1).len(), 1);
    assert_eq!(out.offer(&large(3)), Ok(true), "what was taken makes room");
    out.keep_events(|event| event.at.offset == 3);
    assert_eq!(out.bytes, 400);
    assert_eq!(out.offer(&large(4)), Ok(true));
}

#[test]
fn a_notice_of_missing_events_comes_once_and_at_once() {
    let (mut out, now) = (whole(3600), Instant::now());
    assert_eq!(out.due(now), None);
    out.missed("the log lost them");
    assert_eq!(out.due(now), Some(now));
    let gap = Some("the log lost them".to_owned());
    assert_eq!(missed(&out.take(now, 10)), Some(&Missed { gap, ..Missed::default() }));
    assert_eq!((out.due(now), out.take(now, 10).len()), (None, 0));
}

#[test]
fn events_come_before_readings_and_few_at_a_time() {
    let (mut out, now) = (whole(0), Instant::now());
    for device in ["a", "b", "c"] {
        out.offer_reading(&reading(device, 1), now);
    }
    (0..3).for_each(|n| assert_eq!(out.offer(&event(n, "a")), Ok(true)));
    let kinds = |out: Vec<Out>| -> String {
        out.iter().map(|o| if matches!(o, Out::Event(_)) { 'e' } else { 'r' }).collect()
    };
    assert_eq!(kinds(out.take(now, 2)), "ee");
    assert_eq!(kinds(out.take(now, 2)), "er");
    assert_eq!(kinds(out.take(now, 2)), "rr");
    assert_eq!((kinds(out.take(now, 2)).as_str(), out.due(now)), ("", None));
}

#[test]
fn a_heartbeat_does_not_replace_a_reading_of_the_same_device() {
    let (mut out, now) = (whole(0), Instant::now());
    out.offer_reading(&reading("a", 1), now);
    out.offer_reading(&Arc::new(Reading::heartbeat("a".into(), "{}".to_owned())), now);
    out.offer_reading(&reading("a", 2), now);
    let taken = out.take(now, 10);
    assert_eq!(readings(&taken), ["a", "a"]);
    let text: String = taken
        .iter()
        .filter_map(|out| match out {
            Out::Reading(reading, _) => {
                Some(String::from_utf8_lossy(&reading.hub(None)).into_owned())
            }
            _ => None,
        })
        .collect();
    assert!(text.contains("HeartbeatReceived") && text.contains("\"a\",2"), "{text}");
}

#[test]
fn what_a_scope_loses_is_dropped_even_if_its_time_has_come() {
    let (mut out, now) = (whole(0), Instant::now());
    for device in ["a", "b", "c"] {
        out.offer_reading(&reading(device, 1), now);
    }
    assert_eq!(readings(&out.take(now, 1)).len(), 1, "two are ready, and not yet taken");
    out.offer(&event(1, "b")).expect("room");
    let number = out.filters().next().expect("the default").0;
    out.cover(&HashMap::from([(number, Some(Arc::new(devices(&["z"]))))]), false);
    assert_eq!((out.take(now, 10).len(), out.has_events(), out.bytes), (0, false, 0));
}
