//! The built-in broker from the devices' side: both protocol versions, websockets, credentials, topics of
//! other devices, and a log that takes nothing.

use std::time::Duration;

use acuvim_simulator::mqtt::{Connection, Error};
use rumqttc::v5;

use crate::harness::{Server, T0, connect, reading};

/// Publishes once with MQTT 5 on a new connection; returns the PUBACK's reason, or why there was none.
async fn publish_v5(
    server: &Server,
    client_id: &str,
    login: Option<(&str, &str)>,
    topic: &str,
    payload: String,
) -> Result<v5::mqttbytes::v5::PubAckReason, String> {
    use v5::mqttbytes::{QoS, v5::Packet};
    let at = server.mqtt;
    let mut options = v5::MqttOptions::new(client_id, at.ip().to_string(), at.port());
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, mut events) = v5::AsyncClient::new(options, 10);
    client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("queued");
    let answer = async {
        loop {
            match events.poll().await {
                Ok(v5::Event::Incoming(Packet::PubAck(ack))) => return Ok(ack.reason),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer")
}

async fn secret(server: &Server, device: &str) -> String {
    let path = format!("/api/devices/{device}/credentials");
    let answer = server.post(&path, &serde_json::json!({})).await;
    assert_eq!(answer.status(), 201);
    let body: serde_json::Value = answer.json().await.expect("json");
    body["password"].as_str().expect("a password").to_owned()
}

/// Connects with a new secret, which the broker knows after a second or two.
async fn open_with(server: &Server, id: &str, password: &str) -> Connection {
    let mut options = connect(server.mqtt, id);
    options.login = Some((id.to_owned(), password.to_owned()));
    for _ in 0..200 {
        if let Ok(connection) = Connection::open(&options).await {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the secret is not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_secret_speaks_for_itself_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let password = secret(&server, "d1").await;
    let d1 = open_with(&server, "d1", &password).await;
    d1.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("its own");
    // MQTT 3.1.1 can't refuse a publish, so it is acknowledged, counted and dropped.
    d1.publish("acuvim/d2/telemetry", reading(T0), false).await.expect("dropped");
    d1.publish("devices/register", r#"{"device_id":"d2"}"#, false).await.expect("kept as a reject");

    let login = Some(("d1", password.as_str()));
    let other = publish_v5(&server, "d1", login, "acuvim/d2/telemetry", reading(T0)).await;
    assert_eq!(other, Ok(v5::mqttbytes::v5::PubAckReason::NotAuthorized));
    let own = publish_v5(&server, "d1", login, "acuvim/d1/telemetry", reading(T0 + 1000)).await;
    assert_eq!(own, Ok(v5::mqttbytes::v5::PubAckReason::Success));

    for (client, user, password) in
        [("d1", "d1", "wrong"), ("d2", "d1", password.as_str()), ("d9", "d9", "x")]
    {
        let mut options = connect(server.mqtt, client);
        options.login = Some((user.to_owned(), password.to_owned()));
        let refused = Connection::open(&options).await.expect_err("refused");
        let not_authorized = rumqttc::ConnectReturnCode::NotAuthorized;
        assert!(matches!(refused, Error::Refused(code) if code == not_authorized), "{refused}");
    }
    server.wait_for("SELECT count(*) FROM telemetry WHERE device_id = 'd1'", 2).await;
    server.wait_for("SELECT count(*) FROM dead_letters WHERE reason = 'id_mismatch'", 1).await;
    assert_eq!(server.number("SELECT count(*) FROM telemetry WHERE device_id = 'd2'").await, 0);
    let next = secret(&server, "d1").await;
    open_with(&server, "d1", &next).await;
    let mut old = connect(server.mqtt, "d1");
    old.login = Some(("d1".into(), password));
    assert!(Connection::open(&old).await.is_err(), "the old secret has ended");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_speak_the_same_and_a_silent_client_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let _silent = tokio::net::TcpStream::connect(server.websocket).await.expect("connect");
    // A websocket without a library: the handshake, then MQTT packets in masked binary messages.
    let mut stream = tokio::net::TcpStream::connect(server.websocket).await.expect("connect");
    let acked = tokio::time::timeout(Duration::from_secs(20), websocket_publish(&mut stream));
    assert_eq!(acked.await.expect("in time"), [0x40, 2, 0, 7], "PUBACK of packet 7");
    server.wait_for("SELECT count(*) FROM telemetry WHERE device_id = 'ws'", 1).await;
    server.stop().await;
}

/// Sends CONNECT and PUBLISH over a websocket; returns the packet after the CONNACK.
async fn websocket_publish(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the handshake's answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let connect = [&[0x10, 14, 0, 4][..], b"MQTT", &[4, 2, 0, 60, 0, 2], b"ws"].concat();
    let topic = b"acuvim/ws/telemetry";
    let payload = reading(T0);
    let length = u8::try_from(2 + topic.len() + 2 + payload.len()).expect("short");
    assert!(length < 128);
    let publish = [
        &[0x32, length, 0, u8::try_from(topic.len()).expect("short")][..],
        topic,
        &[0, 7],
        payload.as_bytes(),
    ]
    .concat();
    for packet in [connect, publish] {
        // A binary message; a mask of zeros leaves the bytes as they are.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_gets_no_puback_and_says_so() {
    let dir = tempfile::tempdir().expect("dir");
    // The log wants more free space than the disk has.
    let full = ["log.min_free_mb=1000000000", "mqtt.patience_seconds=1"];
    let mut server = Server::start(dir.path(), &full).await;
    server.expect("the log takes nothing");
    let device = server.device("d1").await;
    let unacknowledged = device.publish("acuvim/d1/telemetry", reading(T0), false).await;
    assert!(matches!(unacknowledged, Err(Error::Broken(_))), "{unacknowledged:?}");
    let ready = server.client.get(format!("{}/readyz", server.http)).send().await.expect("answer");
    assert_eq!(ready.status(), 503);
    let text = ready.text().await.expect("text");
    assert!(text.contains("\"component\":\"log\"") && text.contains("min_free_mb"), "{text}");
    let metrics = server.get("/metrics").await.text().await.expect("text");
    assert!(metrics.contains("acuvim_ingest_withholding 1"), "{metrics}");
    assert!(metrics.contains("acuvim_ingest_withheld_total 1"), "{metrics}");
    server.stop().await;

    let server = Server::start(dir.path(), &[]).await;
    let device = server.device("d1").await;
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("there is room again");
    server.wait_for("SELECT count(*) FROM telemetry", 1).await;
    server.stop().await;
}

/// A file that occupies disk space until it is dropped, without being written.
fn ballast(path: &std::path::Path, mb: u64) {
    let file = std::fs::File::create(path).expect("a file");
    let mode = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, mode, 0, mb << 20).expect("room for the test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_acknowledgements_and_room_brings_them_back() {
    let dir = tempfile::tempdir().expect("dir");
    let stat = rustix::fs::statvfs(dir.path()).expect("the disk");
    let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    assert!(free_mb > 4000, "the test needs 4 GB of disk, and {free_mb} MB are free");
    let limit = format!("log.min_free_mb={}", free_mb - 1500);
    let set = [limit.as_str(), "mqtt.patience_seconds=1", "lake.flush_interval_ms=300"];
    let mut server = Server::start(dir.path(), &set).await;
    server.expect("the log takes nothing");
    // The registration waits as well.
    server.expect("fewer than log.min_free_mb");
    let device = server.device("d1").await;
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("there is room");

    let file = dir.path().join("ballast");
    ballast(&file, 3000);
    let refused = device.publish("acuvim/d1/telemetry", reading(T0 + 1000), false).await;
    assert!(matches!(refused, Err(Error::Broken(_))), "{refused:?}");
    // Stored readings can be queried meanwhile.
    server.wait_for("SELECT count(*) FROM telemetry", 1).await;

    std::fs::remove_file(&file).expect("room again");
    let begun = std::time::Instant::now();
    loop {
        let device = server.device("d1").await;
        if device.publish("acuvim/d1/telemetry", reading(T0 + 1000), false).await.is_ok() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it goes on by itself");
        crate::harness::pause(begun).await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", 2).await;
    server.stop().await;
}
