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
