use acuvim_wire::{Identity, Kind, time::SECOND};
use bytes::Bytes;

use super::*;

fn boot(started: Micros) -> Clockless {
    let newest_at = DateTime::UNIX_EPOCH;
    Clockless { device_id: "d".into(), boot: 7, started, newest_at }
}

fn time(payload: &str, started: Micros) -> Option<Micros> {
    let letter = Letter {
        identity: Identity { epoch: 0, partition: 0, offset: 0, item: 0 },
        device_id: "d".into(),
        received_at: 0,
        kind: Kind::Telemetry,
        topic: String::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        whole: true,
    };
    time_of(&letter, &boot(started))
}

#[test]
fn a_reading_was_taken_its_uptime_after_the_boot_began() {
    assert_eq!(time(r#"{"boot":7,"uptime_ms":1500}"#, 10 * SECOND), Some(11_500_000));
    assert_eq!(time(r#"{"boot":7.0,"uptime_ms":0}"#, 10 * SECOND), Some(10 * SECOND));
}

#[test]
fn a_reading_of_another_boot_or_without_an_uptime_has_no_time() {
    for payload in [
        r#"{"boot":6,"uptime_ms":1500}"#,
        r#"{"boot":7}"#,
        r#"{"uptime_ms":1500}"#,
        r#"{"boot":"7","uptime_ms":"soon"}"#,
        "[1]",
        "broken",
        "",
    ] {
        assert_eq!(time(payload, 10 * SECOND), None, "{payload}");
    }
}

#[test]
fn an_uptime_beyond_all_times_is_refused() {
    assert_eq!(time(r#"{"boot":7,"uptime_ms":9223372036854775807}"#, SECOND), None);
    assert_eq!(time(r#"{"boot":7,"uptime_ms":9223372036854775}"#, SECOND), None, "with the start");
}
