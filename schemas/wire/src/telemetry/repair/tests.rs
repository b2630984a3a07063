use super::*;
use crate::{
    payload::{self, Payload},
    time::SECOND,
};
use proptest::prelude::*;

fn mended(repair: &Repair, payload: &[u8]) -> String {
    String::from_utf8(repair.apply(Kind::Telemetry, payload)).expect("text")
}

#[test]
fn a_repair_changes_what_it_names_and_no_digit_else() {
    let offset = Repair { offset: Offset::parse("+0200"), ..Repair::default() };
    let naive = br#"{"ts":"2026-05-16T19:05:32","ei":13423.700000000001}"#;
    assert_eq!(
        mended(&offset, naive),
        r#"{"ei":13423.700000000001,"ts":"2026-05-16T17:05:32.000000Z"}"#
    );
    let shift = Repair { shift: -3600 * SECOND, ..Repair::default() };
    let lines = b"{\"ts\":1778951132,\"f\":nan}\nbroken\n{\"ts\":\"2026-05-16T17:05:32Z\"}";
    let want = "{\"f\":nan,\"ts\":\"2026-05-16T16:05:32.000000Z\"}\nbroken\n\
                {\"ts\":\"2026-05-16T16:05:32.000000Z\"}";
    assert_eq!(mended(&shift, lines), want);
    let nuls = Repair { strip_nuls: true, ..Repair::default() };
    assert_eq!(mended(&nuls, b"{\"ts\":\0 1,\"f\":5\0}"), "{\"ts\": 1,\"f\":5}");
    let beat = nuls.apply(Kind::Heartbeat, b"{\"ts\":1}\0");
    assert_eq!(beat, b"{\"ts\":1}");
}

/// A heartbeat with nan for a number, whose time was bad, must not fail again for the word.
#[test]
fn words_in_place_of_numbers_stay_readable_in_every_kind() {
    let repair = Repair { offset: Offset::parse("+0200"), ..Repair::default() };
    let beat = br#"{"ts":"2026-05-16T19:05:32","free_heap":nan,"modbus":{"ok":-inf}}"#;
    let want = r#"{"free_heap":nan,"modbus":{"ok":-inf},"ts":"2026-05-16T17:05:32.000000Z"}"#;
    let repaired = repair.apply(Kind::Heartbeat, beat);
    assert_eq!(String::from_utf8_lossy(&repaired), want);
    let alert = br#"{"ts":"2026-05-16T19:05:32","type":"overvoltage","value":nan}"#;
    let repaired = repair.apply(Kind::Alerts, alert);
    let Ok(Payload::Alert(alert)) = payload::parse(Kind::Alerts, "d1", &repaired) else {
        panic!("{}", repaired.escape_ascii())
    };
    assert_eq!((alert.value, alert.ts.0), (None, 1_778_951_132 * SECOND));
}

#[test]
fn without_anything_to_do_not_a_byte_changes() {
    let none = Repair::default();
    for payload in [&b"\0 {\"b\":1,\"a\":2} \0"[..], b"", b"\xff", b"{\"ts\":1}\r\n{\"ts\":2}"] {
        assert_eq!(none.apply(Kind::Telemetry, payload), payload);
    }
    let nuls = Repair { strip_nuls: true, ..none };
    assert_eq!(nuls.apply(Kind::Register, b"\x00{\"a\x00\":\x001}\x00"), b"{\"a\":1}");
}

#[test]
fn an_offset_is_for_times_without_one_alone() {
    let repair = Repair { offset: Offset::parse("-05:00"), shift: SECOND, ..Repair::default() };
    for (ts, want) in [
        (r#""2026-05-16T12:05:32""#, "2026-05-16T17:05:33.000000Z"),
        (r#""2026-05-16T17:05:32Z""#, "2026-05-16T17:05:33.000000Z"),
        (r#""2026-05-16T19:05:32+02""#, "2026-05-16T17:05:33.000000Z"),
        ("1778951132", "2026-05-16T17:05:33.000000Z"),
        ("1778951132250", "2026-05-16T17:05:33.250000Z"),
        ("1.778951132e9", "2026-05-16T17:05:33.000000Z"),
    ] {
        let payload = format!("{{\"ts\":{ts}}}");
        assert_eq!(mended(&repair, payload.as_bytes()), format!("{{\"ts\":\"{want}\"}}"), "{ts}");
    }
}

#[test]
fn an_item_whose_time_can_not_be_moved_stays_as_it_is() {
    let repair = Repair { shift: Micros::MAX, ..Repair::default() };
    for payload in [
        "{\"ts\":1778951132}",
        "{\"f\":50}",
        "{\"ts\":null}",
        "{\"ts\":\"yesterday\"}",
        "{\"ts\":[1]}",
        "{\"ts\":nan}",
        "[1,2]",
    ] {
        assert_eq!(mended(&repair, payload.as_bytes()), payload);
    }
    // A broken item of several lines becomes one line, or it would be two items.
    let broken = b"{\"batch\":[{\"ts\":1,\n\"f\":},{\"ts\":1778951132}]}";
    let shift = Repair { shift: SECOND, ..Repair::default() };
    let want = "{\"ts\":1, \"f\":}\n{\"ts\":\"2026-05-16T17:05:33.000000Z\"}";
    assert_eq!(mended(&shift, broken), want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn moving_a_time_there_and_back_gives_the_same_moment(
        micros in 1_577_836_800_000_000_i64..2_000_000_000_000_000,
        shift in -315_576_000_i64..=315_576_000,
    ) {
        let text = time::to_rfc3339(micros);
        let there = Repair { shift: shift * SECOND, ..Repair::default() };
        let back = Repair { shift: -shift * SECOND, ..Repair::default() };
        let moved = there.apply(Kind::Heartbeat, format!("{{\"ts\":\"{text}\"}}").as_bytes());
        let again = back.apply(Kind::Heartbeat, &moved);
        let fields = payload::fields(&again).expect("an object");
        let ts = fields["ts"].as_str().and_then(time::parse_rfc3339);
        prop_assert_eq!(ts, Some(micros));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let repair = Repair { strip_nuls: true, offset: Offset::parse("Z"), shift: 1 };
        for kind in Kind::ALL {
            let _ = repair.apply(kind, &bytes);
        }
    }
}
