//! Records that Kafka has dropped before the lake had them: an ERROR names the range, and the stream
//! continues.

use acuvim_log::{KafkaLog, Log as _, LogTopic};
use acuvim_simulator::mqtt::Connection;
use acuvim_wire::device::partition_of;

use crate::{
    harness::{T0, connect, reading},
    stack::Stack,
};

const ALL: &str = "ingest,processor,query";

async fn publish(stack: &Stack, from: i64, count: i64) {
    let device = Connection::open(&connect(stack.mqtt, "d1")).await.expect("Mosquitto");
    for n in from..from + count {
        let payload = reading(T0 + n * 1000);
        device.publish("acuvim/d1/telemetry", payload, false).await.expect("ack");
    }
    device.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_records_raise_an_alarm_with_their_range_and_the_stream_goes_on() {
    let stack = Stack::shared().await;
    let server = stack.serve("all", ALL, &["lake.flush_interval_ms=3600000"]).await;
    publish(&stack, 0, 50).await;
    server.wait_for("SELECT count(*) FROM telemetry", 50).await;
    server.kill();
    let log = KafkaLog::open(stack.kafka_options()).await.expect("Kafka");
    let partition = partition_of(b"d1", 4);
    log.truncate_before(LogTopic::Uplink, partition, 30).await.expect("truncate");
    let mut server = stack.serve("all", ALL, &["lake.flush_interval_ms=300"]).await;
    server.expect("the log has dropped records that are in no table");
    server.expect("control has missed records that are gone");
    server.wait_for("SELECT count(*) FROM telemetry", 20).await;
    publish(&stack, 50, 10).await;
    server.wait_for("SELECT count(*) FROM telemetry", 30).await;
    let alarm = server.line("the log has dropped records that are in no table");
    assert_eq!(alarm["level"], "ERROR");
    let fields = &alarm["fields"];
    let named = (fields["partition"].as_u64(), fields["from"].as_i64(), fields["to"].as_i64());
    assert_eq!(named, (Some(partition.into()), Some(0), Some(30)));
    let metrics = server.client.get(format!("{}/metrics", server.http)).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("metrics");
    // Once as the follower before the partition was assigned and once as its writer, or as the writer only.
    assert!(metrics.contains("acuvim_log_lost_records_total"), "{metrics}");
    server.stop().await;
}
