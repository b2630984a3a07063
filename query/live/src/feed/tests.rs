//! From the log to connections.

use acuvim_log::Log as _;
use acuvim_model::event::{DeviceEvent, Event};
use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};

use super::*;
use crate::{
    position::StreamPosition,
    subscriber::Subscriber,
    testing::{Fixture, PATIENCE, entry, next_of, online, reasons, scope, somebody},
    writer::{ConnectError, ConnectionWriter, Wire},
};

/// A feed that runs until it is dropped.
struct Running(CancellationToken, tokio::task::JoinHandle<()>);

fn start(fixture: &Fixture) -> Running {
    let stop = CancellationToken::new();
    Running(stop.clone(), tokio::spawn(run(fixture.live.clone(), stop)))
}

impl Running {
    async fn end(self) {
        self.0.cancel();
        tokio::time::timeout(PATIENCE, self.1).await.expect("in time").expect("no panic");
    }
}

/// A connection, as soon as the feed has found the end of the log.
async fn connected(fixture: &Fixture, subscriber: Subscriber) -> ConnectionWriter {
    let connected = async {
        loop {
            match ConnectionWriter::open(&fixture.live, subscriber.clone(), Wire::Hub).await {
                Ok(writer) => return writer,
                Err(ConnectError::Refused(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("in time")
}

async fn next_reasons(writer: &mut ConnectionWriter, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(reasons(&next_of(writer).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_log_knows_the_newest_number_of_each_partition() {
    let fixture = Fixture::new().await;
    assert_eq!(end_of_log(&fixture.live).await.expect("an end"), crate::testing::position([0, 0]));
    // More than one read returns; the last record is a repetition of an older one.
    let many = (0..700).map(|n| online("a", "x", Some(1000 + n))).collect();
    fixture.store(0, many).await;
    fixture.store(0, vec![online("a", "x", Some(1500)), online("a", "x", None)]).await;
    let StreamPosition { epoch, partitions } = end_of_log(&fixture.live).await.expect("an end");
    assert_eq!((epoch, partitions[0].next, partitions[0].seq), (0, 702, 1699));
    assert_eq!(partitions[1], PartitionPosition::default());
    fixture.log.truncate_before(LogTopic::Events, 0, 702).await.expect("truncated");
    let end = end_of_log(&fixture.live).await.expect("an end");
    assert_eq!(end.partitions[0].next, 702, "an empty log has an end too");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_now_on_come_once_and_in_order() {
    let fixture = Fixture::new().await;
    fixture.store(0, vec![online("a", "before", Some(100))]).await;
    let running = start(&fixture);
    let mut writer = connected(&fixture, somebody(None)).await;
    let entries = vec![
        // The outbox repeats what it had delivered before it restarted.
        online("a", "before", Some(100)),
        online("a", "n1", Some(101)),
        online("a", "n2", Some(102)),
        online("a", "n1", Some(101)),
        online("a", "n2", Some(102)),
        online("a", "foreign", None),
        online("a", "n3", Some(103)),
    ];
    fixture.store(0, entries).await;
    assert_eq!(next_reasons(&mut writer, 4).await, ["n1", "n2", "foreign", "n3"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_event_holds_nothing_up() {
    let fixture = Fixture::new().await;
    let running = start(&fixture);
    let mut writer = connected(&fixture, somebody(None)).await;
    let mut broken = online("a", "x", Some(1));
    broken.value = "{".into();
    fixture.store(1, vec![broken, online("b", "after", Some(2))]).await;
    assert_eq!(next_reasons(&mut writer, 1).await, ["after"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_seen_from_its_registration_on() {
    let fixture = Fixture::new().await;
    let running = start(&fixture);
    // Checked by nobody but the event itself: the next round comes much later.
    let subscriber = fixture.key(Some(scope(&["new"]))).await;
    let mut writer = connected(&fixture, subscriber).await;
    fixture.create_device("new").await;
    let registered = Event::Device(Box::new(DeviceEvent {
        event_id: uuid::Uuid::nil(),
        device_id: "new".to_owned(),
        event: "registered".to_owned(),
        ts: chrono::DateTime::UNIX_EPOCH,
        recorded_at: chrono::DateTime::UNIX_EPOCH,
        status: None,
        previous: None,
        reason: None,
        detail: None,
    }));
    let entries = vec![entry(&registered, Some(1)), online("new", "first", Some(2))];
    fixture.store(0, entries).await;
    let mut text = String::new();
    while !text.contains("DeviceStatusChanged") {
        text += &String::from_utf8(next_of(&mut writer).await).expect("text");
    }
    let (registration, status) = (text.find("DeviceRegistered"), text.find("DeviceStatusChanged"));
    assert!(registration.is_some() && registration < status, "{text}");
    assert!(text.contains("\"device_id\":\"new\""), "{text}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_the_feed_and_may_come_again() {
    let fixture = Fixture::new().await;
    let running = start(&fixture);
    let writer = connected(&fixture, somebody(None)).await;
    let connection = Arc::clone(writer.connection());
    let gone = tokio::spawn(async move {
        let closing = connection.closed().await;
        drop(writer);
        closing
    });
    running.end().await;
    assert_eq!(gone.await.expect("no panic"), Closing::again("the server is stopping"));
    assert!(fixture.live.hub().is_empty());
    let late = ConnectionWriter::open(&fixture.live, somebody(None), Wire::Hub).await;
    assert!(matches!(late, Err(ConnectError::Refused(crate::Refusal::Stopping))), "{late:?}");
}

#[test]
fn a_heartbeat_is_told_without_its_place_in_the_log() {
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let ts = TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("UTC");
    let row = RecordBatch::try_from_iter([
        ("device_id", text("a \"b\"")),
        ("ts", Arc::new(ts) as ArrayRef),
        ("partition", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        ("offset", Arc::new(Int64Array::from(vec![2])) as ArrayRef),
        ("item", Arc::new(Int32Array::from(vec![3])) as ArrayRef),
        ("date", text("1970-01-01")),
        ("imei", Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
        ("rssi", Arc::new(Int32Array::from(vec![-71])) as ArrayRef),
    ]);
    let told: serde_json::Value =
        serde_json::from_str(&heartbeat(&row.expect("a row"))).expect("JSON");
    let wanted =
        serde_json::json!({"device_id": "a \"b\"", "ts": "1970-01-01T00:00:01.000Z", "rssi": -71});
    assert_eq!(told, wanted);
}

#[test]
fn every_row_of_telemetry_is_a_reading_of_its_device() {
    let ids = Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
    let volts = Arc::new(Int64Array::from(vec![Some(230), None])) as ArrayRef;
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("device_id", ids, false),
        ("voltage_l1_v", volts, true),
    ]);
    let rows = rows.expect("rows");
    let texts: Vec<String> = telemetry(&rows)
        .iter()
        .map(|reading| String::from_utf8_lossy(&reading.sse(None)).into_owned())
        .collect();
    assert!(texts[0].contains("\"data\":{\"voltage_l1_v\":230}"), "{texts:?}");
    assert!(
        texts[1].contains("\"device_id\":\"b\"") && texts[1].contains("\"data\":{}"),
        "{texts:?}"
    );
    assert!(telemetry(&rows.slice(0, 0)).is_empty());
}
