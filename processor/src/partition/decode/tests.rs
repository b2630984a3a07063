use acuvim_rules::Signal;
use acuvim_wire::{Headers, record::Reject};
use arrow::array::AsArray as _;

use super::*;

fn entry(kind: Kind, device: &str, payload: &str) -> Entry {
    let reject = (kind == Kind::Reject).then(|| Reject {
        reason: Reason::TooLarge,
        length: 900_000,
        sha256: "ab".into(),
    });
    Entry::from(Record {
        key: Bytes::copy_from_slice(device.as_bytes()),
        value: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers {
            kind,
            topic: Bytes::from(format!("acuvim/{device}/{kind}")),
            received_at: 1_778_951_200_000_000,
            retained: false,
            reject,
            replay_of: None,
            resolved_ts: None,
        },
    })
}

fn decode(entries: Vec<Entry>, sinks: SinkOffsets) -> Decoded {
    let mut decoder = StreamDecoder::new(0, 0, Limits::default(), Arc::default());
    let entries = (0..).zip(entries).collect();
    decoder.decode(entries, sinks, &|device, _| device != "known").expect("schema")
}

fn stream() -> Vec<Entry> {
    vec![
        entry(Kind::Telemetry, "known", r#"{"ts":1778951132,"f":50}"#),
        entry(Kind::Telemetry, "new", "broken"),
        entry(Kind::Heartbeat, "new", r#"{"ts":1778951132}"#),
        entry(Kind::Register, "reg", r#"{"device_id":"reg","imei":"351234567890123"}"#),
        entry(Kind::Register, "reg", r#"{"device_id":7,"imei":1}"#),
        entry(Kind::Status, "new", "sideways"),
        entry(Kind::Reject, "", "first bytes"),
        Entry { value: Bytes::from_static(b"stranger"), ..Entry::default() },
    ]
}

#[test]
fn good_records_become_rows_and_bad_ones_dead_letters_with_their_reason() {
    let decoded = decode(stream(), SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 });
    assert_eq!(decoded.rows.telemetry.num_rows(), 1);
    let letters = &decoded.rows.dead_letters;
    let reasons = letters.column_by_name("reason").expect("reason").as_string::<i32>();
    let reasons: Vec<_> = reasons.iter().flatten().collect();
    assert_eq!(reasons, ["not_json", "wrong_type", "not_json", "too_large", "bad_record"]);
}

fn updated(changes: &Changes) -> Vec<&str> {
    changes.devices.iter().map(|note| note.device_id.as_str()).collect()
}

#[test]
fn a_device_has_one_update_with_all_that_it_sent() {
    let decoded = decode(stream(), SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 });
    let changes = decoded.changes;
    assert_eq!(
        updated(&changes),
        ["new", "reg"],
        "a device that control was told of lately is left out"
    );
    let [new, reg] = changes.devices.as_slice() else { panic!("two") };
    assert!(new.heartbeat.is_some() && new.heard && !new.back);
    let at = 1_778_951_200_000_000;
    let signals: Vec<_> = decoded
        .reports
        .iter()
        .filter_map(|(device, report)| match report {
            DeviceReport::Signal(signal) => Some((device.as_str(), *signal)),
            DeviceReport::Vitals { .. }
            | DeviceReport::TakenOver { .. }
            | DeviceReport::Clock { .. } => None,
        })
        .collect();
    let heard = Signal::Heard { at };
    assert_eq!(
        signals,
        [
            ("known", heard),
            ("new", heard),
            ("new", Signal::Heartbeat { at, interval_s: None }),
            ("reg", Signal::Announced { at }),
            ("reg", heard),
        ]
    );
    assert_eq!((reg.registrations.len(), reg.heard, reg.back), (1, true, true));
}

#[test]
fn the_last_status_counts_and_a_retained_one_does_not() {
    let status = |text: &str, retained| {
        let mut entry = entry(Kind::Status, "d", text);
        if retained {
            entry.headers.push((Bytes::from_static(b"retained"), Bytes::from_static(b"1")));
        }
        entry
    };
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let updates = |entries| {
        let mut decoded = decode(entries, all);
        (decoded.changes.devices.swap_remove(0), decoded.reports)
    };
    let (note, signals) = updates(vec![status("online", false), status("offline", false)]);
    assert_eq!(signals.len(), 2);
    assert!(matches!(signals[1].1, DeviceReport::Signal(Signal::Offline { .. })));
    assert!(!note.heard && !note.back && note.gone);
    let (note, signals) = updates(vec![status("online", true)]);
    assert!(signals.is_empty() && !note.heard);
}

#[test]
fn a_message_shows_presence_unless_it_was_imported_replayed_or_retained() {
    let telemetry = || entry(Kind::Telemetry, "d", r#"{"ts":1778951132,"f":50}"#);
    let with = |name: &'static str, value: &'static str| {
        let mut entry = telemetry();
        entry.headers.retain(|(header, _)| header.as_ref() != name.as_bytes());
        entry.headers.push((Bytes::from(name), Bytes::from(value)));
        entry
    };
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let heard = |entries: Vec<Entry>| {
        let reports = decode(entries, all).reports;
        let heard = |(_, report): &&(String, DeviceReport)| {
            matches!(report, DeviceReport::Signal(Signal::Heard { .. }))
        };
        reports.iter().filter(heard).count()
    };
    assert_eq!(heard(vec![telemetry(), telemetry(), telemetry()]), 1, "once for many");
    assert_eq!(heard(vec![telemetry(), entry(Kind::Status, "d", "offline"), telemetry()]), 2);
    assert_eq!(heard(vec![entry(Kind::Heartbeat, "d", r#"{"boot":1,"uptime_ms":5}"#)]), 1);
    for silent in [with("topic", "import"), with("retained", "1"), with("replay_of", "0:1:2:3")] {
        assert_eq!(heard(vec![silent]), 0);
    }
}

#[test]
fn a_time_in_the_future_moves_nothing_and_is_reported() {
    // It arrives at 17:06:40.
    let entries = vec![
        entry(Kind::Telemetry, "d", r#"{"ts":"2026-05-16T17:06:35Z","f":50}"#),
        entry(Kind::Telemetry, "d", r#"{"ts":"2026-05-16T17:08:40Z","f":50}"#),
        entry(Kind::Heartbeat, "h", r#"{"ts":"2026-05-17T13:06:40Z","boot":1,"uptime_ms":0}"#),
        entry(Kind::Telemetry, "late", r#"{"ts":"2026-05-16T16:00:00Z","f":50}"#),
    ];
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let decoded = decode(entries, all);
    assert_eq!(decoded.rows.telemetry.num_rows(), 3, "it is stored");
    let arrival = moment_of("2026-05-16T17:06:40Z");
    let note = |id: &str| decoded.changes.devices.iter().find(|n| n.device_id == id);
    let newest = note("d").and_then(|note| note.telemetry).map(|at| at.timestamp_micros());
    assert_eq!(newest, Some(arrival - 5 * time::SECOND));
    let beat = note("h").and_then(|note| note.heartbeat.as_ref()).map(|(at, _)| *at);
    assert_eq!(beat.map(|at| at.timestamp_micros()), Some(arrival));
    let mut clocks: Vec<_> = decoded
        .reports
        .iter()
        .filter_map(|(id, report)| match report {
            DeviceReport::Clock { ahead, .. } => {
                Some((id.as_str(), ahead.map(|by| by / time::SECOND)))
            }
            _ => None,
        })
        .collect();
    clocks.sort_unstable();
    let wanted = [("d", None), ("d", Some(120)), ("h", Some(72_000))];
    assert_eq!(clocks, wanted, "a late reading says nothing about the clock");
}

fn moment_of(text: &str) -> Micros {
    time::parse_rfc3339(text).expect("a time")
}

#[test]
fn every_record_is_counted_with_its_outcome() {
    let ledger = decode(stream(), SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 });
    let total = ledger.rows.ledger.total();
    assert_eq!((total.records, total.received, total.dead_letters), (8, 8, 5));
    // The reading and the heartbeat are counted once it is known whether they are new.
    assert_eq!((total.noted, total.unaccounted()), (1, 2));
    let again = decode(stream(), SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 8 });
    assert!(again.rows.ledger.is_empty());
}

#[test]
fn a_break_in_the_log_is_told_from_a_silent_device() {
    let mut clock = Clock::default();
    let second = time::SECOND;
    for at in [100, 110, 140] {
        clock.tick(at * second);
    }
    assert_eq!((clock.since, clock.last), (100 * second, Some(140 * second)));
    clock.tick(200 * second);
    assert_eq!(clock.since, 200 * second, "ingest was down for a minute");
    clock.tick(190 * second);
    assert_eq!(clock.last, Some(200 * second), "clocks of two ingests differ a little");
    clock.tick(100 * second);
    assert_eq!((clock.since, clock.last), (100 * second, Some(100 * second)), "it was set back");
}

#[test]
fn a_replayed_reading_has_the_time_that_became_known() {
    let mut entry = entry(Kind::Telemetry, "d", r#"{"boot":3,"uptime_ms":5000,"f":50}"#);
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let decoded = decode(vec![entry.clone()], all);
    assert_eq!(decoded.rows.dead_letters.num_rows(), 1);
    assert_eq!(decoded.changes.dead_letters.clockless.len(), 1);
    for (name, value) in [("replay_of", "0:1:2:3"), ("resolved_ts", "1778951132000000")] {
        entry.headers.push((Bytes::from(name), Bytes::from(value)));
    }
    let decoded = decode(vec![entry], all);
    assert_eq!(decoded.rows.telemetry.num_rows(), 1);
    assert_eq!(decoded.rows.ledger.total().replayed, 1);
    assert_eq!(decoded.replayed.first().map(|r| r.decoded), Some(true));
}

#[test]
fn answers_and_deliveries_keep_their_order() {
    let id = "018f0000-0000-7000-8000-000000000000";
    let answer = |status: &str| {
        let text = format!(r#"{{"request_id":"{id}","status":"{status}"}}"#);
        entry(Kind::Resp, "d", &text)
    };
    let sent = format!(r#"{{"request_id":"{id}","attempt":1,"outcome":"sent"}}"#);
    let entries = vec![
        answer("ack"),
        entry(Kind::Sent, "d", &sent),
        entry(Kind::Sent, "d", "of nobody"),
        answer("success"),
    ];
    let changes =
        decode(entries, SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 }).changes;
    assert_eq!(changes.answers.len(), 2);
    assert_eq!(changes.deliveries.len(), 1);
    assert_eq!(updated(&changes), ["d"], "a message shows that its device exists");
}

#[test]
fn a_wrong_clock_changes_no_device_and_only_the_field_that_is_too_long_is_dropped() {
    let long = format!(r#"{{"ts":1778951132,"firmware_version":"{}"}}"#, "x".repeat(65));
    let beat = decode(
        vec![entry(Kind::Heartbeat, "d", &long)],
        SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 },
    );
    let beat = beat.changes.devices.first().and_then(|note| note.heartbeat.clone());
    assert_eq!(beat.expect("a heartbeat").1.firmware_version, None);
    let entries = vec![
        entry(Kind::Heartbeat, "d", r#"{"ts":-8e15}"#),
        entry(Kind::Heartbeat, "d", r#"{"ts":"2036-01-01T00:00:00Z"}"#),
    ];
    let decoded = decode(entries, SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 });
    assert!(decoded.changes.devices.iter().all(|note| note.heartbeat.is_none()));
    let letters = &decoded.rows.dead_letters;
    let reasons = letters.column_by_name("reason").expect("reason").as_string::<i32>();
    let reasons: Vec<_> = reasons.iter().flatten().collect();
    assert_eq!(reasons, ["ts_before_2020", "ts_in_future"]);
}

#[test]
fn an_answer_that_can_not_be_used_shows_no_secret() {
    let answer = r#"{"request_id":"x","status":"done","data":{"wifi":{"password":"hunter22"}}}"#;
    let entries = vec![entry(Kind::Resp, "d", answer)];
    let letters = decode(entries, SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 })
        .rows
        .dead_letters;
    let payload = letters.column_by_name("payload").expect("payload").as_binary::<i32>();
    let text = String::from_utf8(payload.value(0).to_vec()).expect("text");
    assert!(text.contains("********") && !text.contains("hunter22"), "{text}");
}

#[test]
fn the_sink_that_is_ahead_skips_record_by_record() {
    let decoded = decode(stream(), SinkOffsets { rows_from: 5, changes_from: 3, ledger_from: 0 });
    assert_eq!(decoded.rows.telemetry.num_rows(), 0);
    assert_eq!(decoded.rows.dead_letters.num_rows(), 3);
    assert_eq!(updated(&decoded.changes), ["reg", "new"]);
    let nothing =
        decode(stream(), SinkOffsets { rows_from: 99, changes_from: 99, ledger_from: 99 });
    assert_eq!(nothing.rows.dead_letters.num_rows(), 0);
    assert_eq!(nothing.changes, Changes::default());
}

#[test]
fn an_entry_of_a_stranger_has_the_time_of_the_record_before_it() {
    let stranger = || Entry { value: Bytes::from_static(b"stranger"), ..Entry::default() };
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let times = |entries: Vec<Entry>| -> Vec<i64> {
        let letters = decode(entries, all).rows.dead_letters;
        let times = letters.column_by_name("received_at").expect("a column");
        times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values().to_vec()
    };
    let arrival = moment_of("2026-05-16T17:06:40Z");
    assert_eq!(times(vec![entry(Kind::Pulse, "", ""), stranger()]), [arrival]);
    assert_eq!(times(vec![stranger()]), [0], "nothing is known yet");
}

#[test]
fn an_empty_batch_changes_nothing() {
    let decoded = decode(Vec::new(), SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 });
    assert_eq!(decoded.rows.telemetry.num_rows() + decoded.rows.dead_letters.num_rows(), 0);
    assert!(decoded.rows.ledger.is_empty() && decoded.reports.is_empty());
    assert_eq!((decoded.changes, decoded.clock.last), (Changes::default(), None));
}

#[test]
fn a_decoder_keeps_nothing_of_a_batch_but_the_time() {
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let mut decoder = StreamDecoder::new(0, 0, Limits::default(), Arc::default());
    let first = (0..).zip(stream()).collect();
    let first = decoder.decode(first, all, &|_, _| true).expect("schema");
    assert!(!first.messages.is_empty() && !first.rows.ledger.is_empty());
    let second = decoder.decode(Vec::new(), all, &|_, _| true).expect("schema");
    assert!(second.messages.is_empty() && second.rows.ledger.is_empty());
    assert_eq!(second.rows.dead_letters.num_rows(), 0);
    assert_eq!(second.clock, first.clock);
}

#[test]
fn a_replayed_record_does_not_move_the_clock() {
    let mut replayed = entry(Kind::Telemetry, "d", r#"{"ts":1778951132,"f":50}"#);
    replayed.headers.push((Bytes::from_static(b"replay_of"), Bytes::from_static(b"0:1:2:3")));
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let decoded = decode(vec![replayed], all);
    assert_eq!(decoded.clock.last, None, "it arrived long ago");
    assert_eq!(decoded.replayed.len(), 1);
}

#[test]
fn what_has_no_row_is_replayed_all_the_same() {
    let with = |kind: Kind, payload: &str| {
        let mut entry = entry(kind, "reg", payload);
        entry.headers.push((Bytes::from_static(b"replay_of"), Bytes::from_static(b"0:1:2:3")));
        entry
    };
    let entries = vec![
        with(Kind::Register, r#"{"device_id":"reg"}"#),
        with(Kind::Heartbeat, r#"{"ts":1778951132}"#),
        with(Kind::Status, "sideways"),
    ];
    let all = SinkOffsets { rows_from: 0, changes_from: 0, ledger_from: 0 };
    let replayed = decode(entries, all).replayed;
    let facts: Vec<_> = replayed.iter().map(|r| (r.offset, r.decoded, r.has_row)).collect();
    assert_eq!(facts, [(0, true, false), (1, true, true), (2, false, false)]);
}

#[test]
fn readings_that_only_control_lacks_give_no_rows() {
    let readings = || {
        (0..4).map(|n| {
            entry(Kind::Telemetry, "new", &format!(r#"{{"ts":{},"f":50}}"#, 1_778_951_132 + n))
        })
    };
    let sinks = SinkOffsets { rows_from: 3, changes_from: 1, ledger_from: 2 };
    let decoded = decode(readings().collect(), sinks);
    assert_eq!(decoded.rows.telemetry.num_rows(), 1);
    assert_eq!(decoded.messages.len(), 1, "kept for rows alone");
    assert_eq!(decoded.rows.ledger.total().records, 2);
    let newest = decoded.changes.devices.first().and_then(|d| d.telemetry);
    assert_eq!(newest.map(|at| at.timestamp()), Some(1_778_951_135));
}
