//! Commands to connected devices, and the reports on them.

use std::time::{Duration, SystemTime};

use acuvim_log::{Entry, Log as _, LogTopic};
use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use acuvim_wire::{
    Kind, Record,
    command::{Command, Delivery, Outcome},
    device::partition_of,
    time::HOUR,
};
use bytes::Bytes;
use uuid::Uuid;

use crate::support::Ingest;

async fn send(ingest: &Ingest, device: &str, seq: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let expires_at = i64::try_from(now.as_micros()).expect("before 294247") + HOUR;
    let command = Command {
        request_id: Uuid::from_u128(u128::try_from(seq).expect("positive")),
        device_id: device.to_owned(),
        payload: Bytes::from(format!("command {seq}")),
        expires_at,
        attempt: 1,
        outbox_seq: seq,
    };
    let partition = partition_of(device.as_bytes(), ingest.log.partitions());
    let entry = Entry::from(command);
    ingest.log.append(LogTopic::Commands, vec![(partition, entry)]).await.expect("appended");
}

/// Waits until the downlink follows a device's partition: without a cursor it starts at the end.
async fn wait_for_downlink(ingest: &Ingest, device: &str) {
    let partition = partition_of(device.as_bytes(), ingest.log.partitions());
    let follows = async {
        let cursor = || ingest.log.cursor("test", LogTopic::Commands, partition);
        while cursor().await.expect("read").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), follows).await.expect("it follows in time");
}

fn outcomes(records: &[Record]) -> Vec<Outcome> {
    let sent = records.iter().filter(|record| record.headers.kind == Kind::Sent);
    sent.map(|r| serde_json::from_slice::<Delivery>(&r.value).expect("JSON").outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_device_gets_its_commands_in_order_and_each_is_reported_as_sent() {
    let ingest = Ingest::start().await;
    wait_for_downlink(&ingest, "d1").await;
    let subscribe = Some("acuvim/d1/cmd".to_owned());
    let options = ConnectOptions { subscribe, ..ingest.options("d1") };
    let mut device = Connection::open(&options).await.expect("a connection");
    // A round trip after the SUBSCRIBE: the broker has handled it.
    device.publish("acuvim/d1/status", "online", false).await.expect("acknowledged");
    for seq in 1..=5 {
        send(&ingest, "d1", seq).await;
    }
    for seq in 1..=5 {
        let message = tokio::time::timeout(Duration::from_secs(30), device.messages.recv());
        let (topic, payload) = message.await.expect("in time").expect("a command");
        assert_eq!(topic, "acuvim/d1/cmd");
        assert_eq!(String::from_utf8_lossy(&payload), format!("command {seq}"));
    }
    let records = ingest.records_when(|records| outcomes(records).len() == 5).await;
    assert!(outcomes(&records).iter().all(|outcome| *outcome == Outcome::Sent));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_a_device_that_is_away_is_reported_as_undelivered() {
    let ingest = Ingest::start().await;
    wait_for_downlink(&ingest, "d1").await;
    send(&ingest, "d1", 1).await;
    let records = ingest.records_when(|records| !outcomes(records).is_empty()).await;
    assert_eq!(outcomes(&records), [Outcome::NoSubscriber]);
    ingest.stop().await;
}
