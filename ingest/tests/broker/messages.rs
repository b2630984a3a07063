//! Messages on their way into the log: acknowledged once they are durable, and not before.

use std::time::{Duration, Instant};

use acuvim_ingest::{BrokerOptions, IntakeState};
use acuvim_simulator::mqtt::{Connection, Error};
use acuvim_wire::{Kind, Reason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Ingest, kinds};

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_message_is_in_the_log() {
    let ingest = Ingest::start().await;
    let device = ingest.anonymous("d1").await;
    for n in 0..20 {
        device.publish("acuvim/d1/telemetry", n.to_string(), false).await.expect("acknowledged");
        let values: Vec<_> = ingest.records().await.into_iter().map(|r| r.value).collect();
        assert_eq!(values.last().map(|v| v.as_ref()), Some(n.to_string().as_bytes()));
    }
    ingest.stop().await;
}

/// There is no negative PUBACK in MQTT 3.1.1. The device has to notice that its reading is not stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_ends_the_connection_without_a_puback() {
    let ingest = Ingest::with(BrokerOptions::default(), u64::MAX).await;
    let device = ingest.anonymous("d1").await;
    let sent = device.publish("acuvim/d1/telemetry", "{}", false).await;
    assert!(matches!(sent, Err(Error::Broken(_))), "{sent:?}");
    let state = ingest.state.borrow().clone();
    assert!(
        matches!(&state, IntakeState::Withholding(why) if why.contains("min_free_mb")),
        "{state:?}"
    );
    assert!(ingest.records().await.is_empty());
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_over_the_limit_is_acknowledged_and_kept_as_a_reject() {
    let ingest = Ingest::start().await;
    let device = ingest.anonymous("d1").await;
    let huge = vec![b'x'; (1 << 20) + 1];
    device.publish("acuvim/d1/telemetry", huge, false).await.expect("it would come again for ever");
    let records = ingest.records().await;
    let reject = records[0].headers.reject.clone().expect("a reject");
    assert_eq!((reject.reason, reject.length), (Reason::TooLarge, (1 << 20) + 1));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_closed_at_once() {
    let options = BrokerOptions { max_connections: 1, ..BrokerOptions::default() };
    let ingest = Ingest::with(options, 0).await;
    let first = ingest.anonymous("d1").await;
    assert!(matches!(Connection::open(&ingest.options("d2")).await, Err(Error::Broken(_))));
    first.publish("acuvim/d1/telemetry", "{}", false).await.expect("the first one is not affected");
    first.close().await;
    let begun = Instant::now();
    while Connection::open(&ingest.options("d2")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "its slot is free again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_rate_is_slowed_down_and_loses_nothing() {
    let options = BrokerOptions { messages_per_second: 20, ..BrokerOptions::default() };
    let ingest = Ingest::with(options, 0).await;
    let device = ingest.anonymous("d1").await;
    let begun = Instant::now();
    for _ in 0..30 {
        device.publish("acuvim/d1/telemetry", "{}", false).await.expect("acknowledged");
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    assert_eq!(ingest.records().await.len(), 30);
    ingest.stop().await;
}

/// CONNECT and one PUBLISH over a websocket; returns the packet after the CONNACK.
async fn publish_over_websocket(stream: &mut TcpStream) -> Vec<u8> {
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let connect = [&[0x10, 14, 0, 4][..], b"MQTT", &[4, 2, 0, 60, 0, 2], b"ws"].concat();
    let topic = b"acuvim/ws/telemetry";
    let length = u8::try_from(2 + topic.len() + 2 + 2).expect("short");
    let topic_length = u8::try_from(topic.len()).expect("short");
    let publish = [&[0x32, length, 0, topic_length][..], topic, &[0, 7], b"{}"].concat();
    for packet in [connect, publish] {
        // A binary frame, masked with zeros.
        let length = u8::try_from(packet.len()).expect("short");
        assert!(length < 126);
        let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0][..], &packet].concat();
        stream.write_all(&frame).await.expect("write");
    }
    let mut packets = Vec::new();
    while packets.len() < 2 {
        let mut header = [0; 2];
        stream.read_exact(&mut header).await.expect("a frame");
        let mut body = vec![0; usize::from(header[1])];
        stream.read_exact(&mut body).await.expect("its body");
        packets.push(body);
    }
    packets.pop().expect("two")
}

/// The crate's own accept loop waits for the handshake of one client before it accepts the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_is_served_while_another_one_is_silent() {
    let ingest = Ingest::start().await;
    let _silent = TcpStream::connect(ingest.websocket).await.expect("connect");
    let mut stream = TcpStream::connect(ingest.websocket).await.expect("connect");
    let answer = publish_over_websocket(&mut stream);
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("in time");
    assert_eq!(answer, [0x40, 2, 0, 7], "PUBACK of packet 7");
    assert_eq!(kinds(&ingest.records().await), [("ws".to_owned(), Kind::Telemetry)]);
    ingest.stop().await;
}
