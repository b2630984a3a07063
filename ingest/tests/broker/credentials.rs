//! A device with a secret publishes and subscribes for itself only.

use std::time::Duration;

use acuvim_simulator::mqtt::{ConnectOptions, Connection, Error};
use acuvim_wire::{Kind, Reason};
use rumqttc::v5::{self, mqttbytes::v5::PubAckReason};

use crate::support::{Ingest, kinds};

/// Publishes once with MQTT 5; returns the reason in the PUBACK.
async fn publish_v5(ingest: &Ingest, device: &str, secret: &str, topic: &str) -> PubAckReason {
    use v5::mqttbytes::{QoS, v5::Packet};
    let mut options =
        v5::MqttOptions::new(device, ingest.mqtt.ip().to_string(), ingest.mqtt.port());
    options.set_credentials(device, secret);
    let (client, mut events) = v5::AsyncClient::new(options, 10);
    client.publish(topic, QoS::AtLeastOnce, false, "{}").await.expect("queued");
    let answer = async {
        loop {
            let event = events.poll().await.expect("a connection");
            if let v5::Event::Incoming(Packet::PubAck(ack)) = event {
                return ack.reason;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_publishes_for_itself_only() {
    let ingest = Ingest::start().await;
    ingest.set_secret("d1", Some("one"));
    let d1 = ingest.login("d1", "one").await.expect("a login");
    d1.publish("acuvim/d1/telemetry", "{}", false).await.expect("its own topic");
    // MQTT 3.1.1 can't refuse a message: it is acknowledged, and dropped.
    d1.publish("acuvim/d2/telemetry", "{}", false).await.expect("dropped");
    d1.publish("devices/register", r#"{"device_id":"d2"}"#, false).await.expect("rejected");
    drop(d1);
    let refused = publish_v5(&ingest, "d1", "one", "acuvim/d2/telemetry").await;
    assert_eq!(refused, PubAckReason::NotAuthorized);
    let taken = publish_v5(&ingest, "d1", "one", "acuvim/d1/heartbeat").await;
    assert_eq!(taken, PubAckReason::Success);
    let records = ingest.records().await;
    let own = |kind| ("d1".to_owned(), kind);
    let want = [own(Kind::Heartbeat), own(Kind::Reject), own(Kind::Telemetry)];
    assert_eq!(kinds(&records), want, "nothing for d2");
    let reject = records.iter().find_map(|r| r.headers.reject.as_ref()).expect("a reject");
    assert_eq!(reject.reason, Reason::IdMismatch);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_with_the_right_code() {
    let ingest = Ingest::start().await;
    ingest.set_secret("d1", Some("one"));
    ingest.set_secret("off", None);
    for (client_id, user, password) in
        [("d1", "d1", "wrong"), ("d2", "d1", "one"), ("d9", "d9", "x"), ("off", "off", "")]
    {
        let login = Some((user.to_owned(), password.to_owned()));
        let options = ConnectOptions { login, ..ingest.options(client_id) };
        let refused = Connection::open(&options).await.expect_err("refused");
        let code = rumqttc::ConnectReturnCode::NotAuthorized;
        assert!(matches!(refused, Error::Refused(c) if c == code), "{client_id}: {refused}");
    }
    let posing = Connection::open(&ingest.options("d1")).await;
    assert!(matches!(posing, Err(Error::Refused(_))), "anonymous under the id of a device");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_ends_the_connection_of_the_old_one() {
    let ingest = Ingest::start().await;
    ingest.set_secret("d1", Some("old"));
    ingest.set_secret("d2", Some("other"));
    let d1 = ingest.login("d1", "old").await.expect("a login");
    let d2 = ingest.login("d2", "other").await.expect("a login");
    ingest.set_secret("d1", Some("new"));
    let ended = async {
        while d1.publish("acuvim/d1/telemetry", "{}", false).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the connection ends");
    d2.publish("acuvim/d2/telemetry", "{}", false).await.expect("another device is not concerned");
    assert!(ingest.login("d1", "old").await.is_err());
    ingest.login("d1", "new").await.expect("the new one is valid");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_client_cannot_publish_for_a_device_with_a_secret() {
    let ingest = Ingest::start().await;
    ingest.set_secret("d1", Some("one"));
    let tool = ingest.anonymous("tool").await;
    tool.publish("acuvim/d1/telemetry", "{}", false).await.expect("dropped");
    tool.publish("acuvim/open/telemetry", "{}", false).await.expect("an open device");
    assert_eq!(kinds(&ingest.records().await), [("open".to_owned(), Kind::Telemetry)]);
    ingest.stop().await;
}
