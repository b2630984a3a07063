use proptest::prelude::*;

use super::*;
use DeviceStatus::{Degraded, Offline, Online};

const POLICY: HealthPolicy =
    HealthPolicy { degraded_after: 3, offline_after: 5, grace: 300 * SECOND };

fn heartbeat(second: i64) -> Signal {
    Signal::Heartbeat { at: second * SECOND, interval_s: Some(10) }
}

fn silence(health: &mut Health, until: i64, since: i64) -> Vec<(DeviceStatus, i64)> {
    let listening = Listening { until: until * SECOND, since: since * SECOND };
    let changes = health.silence(listening, &POLICY);
    changes.into_iter().map(|c| (c.to, c.at / SECOND)).collect()
}

#[test]
fn silence_degrades_and_then_takes_offline_until_the_next_heartbeat() {
    let mut health = Health::default();
    let back = health.signal(heartbeat(100)).map(|c| (c.from, c.to));
    assert_eq!(back, Some((Offline, Online)));
    assert_eq!(health.signal(heartbeat(110)), None);
    assert_eq!(silence(&mut health, 139, 0), []);
    assert_eq!(silence(&mut health, 140, 0), [(Degraded, 140)]);
    assert_eq!(silence(&mut health, 159, 0), []);
    assert_eq!(silence(&mut health, 200, 0), [(Offline, 160)]);
    assert_eq!(silence(&mut health, 999, 0), []);
    assert_eq!(health.signal(heartbeat(300)).map(|c| c.to), Some(Online));
}

#[test]
fn a_silent_connected_device_is_only_degraded_until_its_last_will() {
    let mut health = Health::default();
    health.signal(Signal::Online { at: 100 * SECOND });
    health.signal(heartbeat(101));
    assert_eq!(silence(&mut health, 9999, 0), [(Degraded, 131)]);
    let will = health.signal(Signal::Offline { at: 10_000 * SECOND });
    assert_eq!(will.map(|c| (c.from, c.to)), Some((Degraded, Offline)));
    assert_eq!(health.connected, Some(false));
}

#[test]
fn a_device_without_heartbeats_is_measured_by_its_readings() {
    let heard = |second: i64| Signal::Heard { at: second * SECOND };
    let mut health = Health::default();
    assert_eq!(health.signal(heard(0)).map(|c| (c.to, c.reason)), Some((Online, "heard")));
    // Every quarter of an hour, and nothing else.
    for n in 1..20 {
        assert_eq!(silence(&mut health, 900 * n - 1, 0), []);
        assert_eq!(health.signal(heard(900 * n)), None);
    }
    let gone = [(Degraded, 900 * 22), (Offline, 900 * 24)];
    assert_eq!(silence(&mut health, 100_000, 0), gone);
    // A message after the last will of an earlier connection.
    let mut health = Health::default();
    health.signal(Signal::Online { at: 0 });
    health.signal(Signal::Offline { at: 100 * SECOND });
    assert_eq!(health.signal(heard(101)).map(|c| (c.from, c.to)), Some((Offline, Online)));
    assert_eq!(health.connected, Some(true));
    // With heartbeats, their own interval counts.
    health.signal(heartbeat(110));
    assert_eq!(silence(&mut health, 999, 0), [(Degraded, 140)]);
}

#[test]
fn a_device_that_only_registered_goes_offline_too() {
    let mut health = Health::default();
    health.signal(Signal::Announced { at: 100 * SECOND });
    assert_eq!(health.connected, None);
    assert_eq!(silence(&mut health, 9999, 0), [(Degraded, 280), (Offline, 400)]);
}

#[test]
fn silence_during_an_interruption_of_the_server_does_not_count() {
    let mut health = Health::default();
    health.signal(heartbeat(100));
    // The server was down from 105 to 1000. Devices get the grace time, then their intervals.
    assert_eq!(silence(&mut health, 1001, 1000), []);
    assert_eq!(silence(&mut health, 1329, 1000), []);
    assert_eq!(silence(&mut health, 1330, 1000), [(Degraded, 1330)]);
    assert_eq!(silence(&mut health, 1350, 1000), [(Offline, 1350)]);
}

#[test]
fn intervals_are_bounded_and_sixty_seconds_by_default() {
    let mut health = Health::default();
    health.signal(Signal::Heartbeat { at: 0, interval_s: None });
    assert_eq!(health.due(&POLICY), Some(180 * SECOND));
    health.signal(Signal::Heartbeat { at: 0, interval_s: Some(0) });
    assert_eq!(health.due(&POLICY), Some(3 * SECOND));
    health.signal(Signal::Heartbeat { at: 0, interval_s: Some(u32::MAX) });
    assert_eq!(health.due(&POLICY), Some(3 * 86_400 * SECOND));
}

#[test]
fn a_device_that_never_sent_anything_changes_nothing() {
    let mut health = Health::default();
    assert_eq!(health.due(&POLICY), None);
    assert_eq!(silence(&mut health, 1_000_000, 0), []);
}

#[test]
fn a_message_that_was_read_out_of_order_does_not_set_the_last_one_back() {
    let mut health = Health::default();
    health.signal(heartbeat(100));
    health.signal(heartbeat(90));
    assert_eq!(health.heard_at, Some(100 * SECOND));
    health.signal(Signal::Heard { at: 80 * SECOND });
    health.signal(Signal::Online { at: 70 * SECOND });
    health.signal(Signal::Announced { at: 60 * SECOND });
    assert_eq!(health.heard_at, Some(100 * SECOND));
}

#[test]
fn a_last_will_is_no_message_of_the_device() {
    let mut health = Health::default();
    health.signal(heartbeat(100));
    health.signal(Signal::Offline { at: 200 * SECOND });
    assert_eq!((health.heard_at, health.connected), (Some(100 * SECOND), Some(false)));
    assert_eq!(health.signal(Signal::Offline { at: 300 * SECOND }), None, "it is offline already");
}

#[test]
fn each_change_says_what_caused_it() {
    let reason = |signal: Signal| {
        let mut health = Health::default();
        health.signal(signal).map(|change| (change.reason, change.at))
    };
    assert_eq!(reason(heartbeat(1)), Some(("heartbeat", SECOND)));
    assert_eq!(reason(Signal::Heard { at: 2 }), Some(("heard", 2)));
    assert_eq!(reason(Signal::Online { at: 3 }), Some(("connected", 3)));
    assert_eq!(reason(Signal::Announced { at: 4 }), Some(("registered", 4)));
    let mut health = Health::default();
    health.signal(heartbeat(1));
    let gone = health.signal(Signal::Offline { at: 9 });
    assert_eq!(gone.map(|change| (change.reason, change.at)), Some(("disconnected", 9)));
    health.signal(heartbeat(10));
    let listening = Listening { until: 10_000 * SECOND, since: 0 };
    let silent = health.silence(listening, &POLICY);
    assert!(silent.iter().all(|change| change.reason == "silent"), "{silent:?}");
}

#[test]
fn only_a_device_that_reports_its_connection_is_taken_as_connected() {
    for signal in [heartbeat(1), Signal::Heard { at: SECOND }, Signal::Announced { at: SECOND }] {
        let mut health = Health::default();
        health.signal(signal);
        assert_eq!(health.connected, None, "{signal:?}");
        health.connected = Some(false);
        health.signal(signal);
        assert_eq!(health.connected, Some(true), "{signal:?}");
    }
}

#[test]
fn a_heartbeat_without_an_interval_keeps_the_one_before() {
    let mut health = Health::default();
    health.signal(heartbeat(100));
    health.signal(Signal::Heartbeat { at: 110 * SECOND, interval_s: None });
    assert_eq!(health.due(&POLICY), Some(140 * SECOND));
}

#[test]
fn messages_of_one_transmission_say_nothing_about_the_time_between_two() {
    let mut health = Health::default();
    let heard = |health: &mut Health, at: Micros| {
        health.signal(Signal::Heard { at });
        health.spacing.map(|spacing| spacing / SECOND)
    };
    assert_eq!(heard(&mut health, 0), Some(900), "assumed");
    assert_eq!(heard(&mut health, SAME_TRANSMISSION - 1), Some(900));
    assert_eq!(heard(&mut health, 2 * SAME_TRANSMISSION), Some(787), "an eighth less");
    assert_eq!(heard(&mut health, 2 * SAME_TRANSMISSION + 3600 * SECOND), Some(3600), "at once");
}

#[test]
fn the_distance_of_messages_counts_for_a_minute_at_least_and_a_day_at_most() {
    let spaced = |seconds: i64| {
        let spacing = Some(seconds * SECOND);
        let (status, heard_at) = (Online, Some(0));
        let health = Health { status, heard_at, spacing, ..Health::default() };
        health.due(&POLICY).map(|due| due / SECOND)
    };
    assert_eq!(spaced(1), Some(180));
    assert_eq!(spaced(600), Some(1800));
    assert_eq!(spaced(1_000_000), Some(3 * 86_400));
}

#[test]
fn a_device_gets_the_grace_time_only_if_it_was_heard_before_the_interruption() {
    let mut health = Health::default();
    health.signal(heartbeat(1000));
    // Heard at the very moment at which reading without a gap began.
    assert_eq!(silence(&mut health, 1030, 1000), [(Degraded, 1030)]);
    let mut health = Health::default();
    health.signal(Signal::Heartbeat { at: 1000 * SECOND - 1, interval_s: Some(10) });
    assert_eq!(silence(&mut health, 1329, 1000), []);
    assert_eq!(silence(&mut health, 1331, 1000), [(Degraded, 1330)]);
}

proptest! {
    #[test]
    fn it_does_not_matter_how_often_silence_is_evaluated(
        beats in prop::collection::vec((0..200_i64, 0..3_u8), 1..12),
        checks in prop::collection::vec(0..3000_i64, 0..20),
        since in 0..1000_i64,
    ) {
        let run = |checks: &[i64]| {
            let (mut health, mut at, mut changes) = (Health::default(), 0, Vec::new());
            for (apart, kind) in &beats {
                let before = at;
                at += apart;
                let mut due: Vec<_> = checks.iter().filter(|c| (before..at).contains(*c)).collect();
                due.sort_unstable();
                for until in due.into_iter().chain([&at]) {
                    changes.extend(silence(&mut health, *until, since));
                }
                let at = at * SECOND;
                let change = health.signal(match kind {
                    0 => Signal::Heartbeat { at, interval_s: Some(10) },
                    1 => Signal::Online { at },
                    _ => Signal::Offline { at },
                });
                changes.extend(change.map(|change| (change.to, change.at / SECOND)));
            }
            changes.extend(silence(&mut health, at + 5000, since));
            changes
        };
        let once = run(&[]);
        prop_assert_eq!(&once, &run(&checks));
        prop_assert!(once.windows(2).all(|pair| pair[0].0 != pair[1].0), "{:?}", once);
    }
}
