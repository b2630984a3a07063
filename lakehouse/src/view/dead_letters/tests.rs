use super::*;
use crate::{
    Lake,
    memory::Rows,
    testing::{T0, dead_letters, lake, push_rows},
};

/// Letters of two partitions, some committed and some in the tail, in no order of time.
async fn with_letters(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    let push = |partition: u32, letters: &[crate::testing::Dead<'_>]| {
        let from = crate::testing::next_of(&lake, partition);
        let dead_letters = dead_letters(partition, from, letters);
        push_rows(&lake, partition, Rows { dead_letters, ..Rows::none() });
    };
    push(0, &[("a", T0 + 2, "0:0"), ("b", T0, "0:1")]);
    push(1, &[("a", T0 + 2, "1:0")]);
    lake.flush(true).await.expect("flush");
    push(0, &[("", T0 + 1, "0:2"), ("a", T0 + 2, "0:3")]);
    push(1, &[("b", T0 + 3, "1:1")]);
    lake
}

fn filter() -> LetterFilter {
    LetterFilter { limit: 100, ..LetterFilter::default() }
}

async fn found(lake: &Lake, filter: &LetterFilter) -> Vec<String> {
    let letters = lake.dead_letters(filter).await.expect("letters");
    let text = |letter: &Letter| String::from_utf8(letter.payload.to_vec()).expect("text");
    letters.iter().map(text).collect()
}

const ALL: [&str; 6] = ["0:1", "0:2", "0:0", "0:3", "1:0", "1:1"];

#[tokio::test]
async fn letters_of_tables_and_tail_come_by_time_partition_and_offset() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    assert_eq!(found(&lake, &filter()).await, ALL);
    let first = LetterFilter { limit: 2, ..filter() };
    assert_eq!(found(&lake, &first).await, ALL[..2]);
    assert!(found(&lake, &LetterFilter { limit: 0, ..filter() }).await.is_empty());
}

#[tokio::test]
async fn pages_of_any_size_have_each_letter_once() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    for limit in 1..=6 {
        let mut page = LetterFilter { limit, ..filter() };
        let mut all = Vec::new();
        loop {
            let letters = lake.dead_letters(&page).await.expect("letters");
            let Some(last) = letters.last() else { break };
            page.after = Some((last.received_at, last.identity));
            all.extend(letters.iter().map(|l| String::from_utf8_lossy(&l.payload).into_owned()));
        }
        assert_eq!(all, ALL, "{limit} at a time");
    }
}

#[tokio::test]
async fn the_beginning_of_a_time_range_is_in_it_and_its_end_is_not() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    let range = |from, to| LetterFilter { from: Some(from), to: Some(to), ..filter() };
    assert_eq!(found(&lake, &range(T0 + 1, T0 + 2)).await, ["0:2"]);
    assert_eq!(found(&lake, &range(T0 + 2, T0 + 3)).await, ["0:0", "0:3", "1:0"]);
    assert!(found(&lake, &range(T0 + 2, T0 + 2)).await.is_empty());
}

#[tokio::test]
async fn conditions_select_together() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    let a = LetterFilter { device_id: Some("a".into()), ..filter() };
    assert_eq!(found(&lake, &a).await, ["0:0", "0:3", "1:0"]);
    let none = LetterFilter { reason: Some("no_ts".into()), ..a.clone() };
    assert!(found(&lake, &none).await.is_empty());
    let kind = |kind: &str| LetterFilter { kind: Some(kind.into()), ..a.clone() };
    assert_eq!(found(&lake, &kind("telemetry")).await.len(), 3);
    assert!(found(&lake, &kind("heartbeat")).await.is_empty());
    let one = Identity { epoch: 0, partition: 0, offset: 3, item: 0 };
    let others = [
        Identity { epoch: 1, ..one },
        Identity { partition: 2, ..one },
        Identity { offset: 9, ..one },
        Identity { item: 1, ..one },
    ];
    let with = |identities: &[Identity]| LetterFilter { identities: identities.into(), ..filter() };
    assert_eq!(found(&lake, &with(&[others[0], one])).await, ["0:3"]);
    assert!(found(&lake, &with(&others)).await.is_empty(), "every part of an identity counts");
}

#[tokio::test]
async fn a_caller_of_few_devices_sees_theirs_and_none_of_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    let scoped = |devices: &[&str]| LetterFilter {
        devices: Some(devices.iter().map(|id| (*id).to_owned()).collect()),
        ..filter()
    };
    assert_eq!(found(&lake, &scoped(&["b"])).await, ["0:1", "1:1"]);
    assert_eq!(found(&lake, &scoped(&["a", "b"])).await.len(), 5, "not the one without a device");
    assert!(found(&lake, &scoped(&[])).await.is_empty());
    let theirs = LetterFilter { device_id: Some("a".into()), ..scoped(&["b"]) };
    assert!(found(&lake, &theirs).await.is_empty());
    let quoted = LetterFilter { device_id: Some("a' OR 'a' = 'a".into()), ..filter() };
    assert!(found(&lake, &quoted).await.is_empty());
}

fn letter(kind: Kind, device_id: &str, whole: bool) -> Letter {
    Letter {
        identity: Identity { epoch: 1, partition: 2, offset: 3, item: 4 },
        device_id: device_id.to_owned(),
        received_at: T0,
        kind,
        topic: "meters/a/telemetry".to_owned(),
        payload: Bytes::from_static(b"{}"),
        whole,
    }
}

#[test]
fn whole_messages_of_known_devices_can_be_replayed_and_answers_can_not() {
    for kind in Kind::ALL {
        let again = !matches!(kind, Kind::Resp | Kind::Reject | Kind::Sent | Kind::Pulse);
        assert_eq!(letter(kind, "a", true).can_be_replayed(), again, "{kind:?}");
        assert!(!letter(kind, "a", false).can_be_replayed(), "{kind:?}");
        assert!(!letter(kind, "", true).can_be_replayed(), "{kind:?}");
    }
}

#[test]
fn a_replay_names_the_letter_that_it_repeats() {
    let letter = letter(Kind::Telemetry, "a", true);
    let record = letter.clone().into_record(Some(7), T0 + 9);
    assert_eq!((&record.key[..], &record.value[..]), (&b"a"[..], &b"{}"[..]));
    let headers = record.headers;
    assert_eq!((headers.replay_of, headers.resolved_ts), (Some(letter.identity), Some(7)));
    assert_eq!((headers.kind, headers.received_at), (Kind::Telemetry, T0 + 9));
    assert_eq!(&headers.topic[..], letter.topic.as_bytes());
}

#[tokio::test]
async fn a_letter_without_a_device_has_an_empty_one() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_letters(dir.path()).await;
    let identity = Identity { epoch: 0, partition: 0, offset: 2, item: 0 };
    let one = LetterFilter { identities: vec![identity], ..filter() };
    let letters = lake.dead_letters(&one).await.expect("letters");
    assert_eq!((letters[0].device_id.as_str(), letters[0].identity), ("", identity));
    assert!(letters[0].whole && letters[0].kind == Kind::Telemetry);
}
