//! The hook as the broker crate calls it, with a log that fails when the test wants it.

use acuvim_wire::{Kind, Record};
use mqtt5::protocol::v5::reason_codes::ReasonCode;

use super::*;
use crate::{
    memory_log::{Failure, MemoryLog},
    testing::{credentials, downlink, intake},
};

struct Test {
    log: Arc<MemoryLog>,
    hook: Hook,
    known: watch::Sender<Credentials>,
    _router: Arc<MessageRouter>,
}

const WILL: &str = "offline";

impl Test {
    fn new(secrets: &[(&str, Option<&str>)]) -> Self {
        let log = MemoryLog::new();
        let (known, watch) = credentials(secrets);
        let outbound = Arc::new(Outbound::new(downlink(&log)));
        let hook = Hook::new(intake(&log), watch.values, outbound, ClientLimits::new(0));
        let router = Arc::new(MessageRouter::new());
        hook.attach(&router);
        Self { log, hook, known, _router: router }
    }

    /// A client connects; its will is for the status of a device, if there is one.
    async fn connect(&self, client: &str, user: &str, will: Option<&str>) {
        let topic = will.map(|device| Arc::from(format!("acuvim/{device}/status")));
        let event = ClientConnectEvent {
            client_id: client.into(),
            user_id: Some(user.into()),
            clean_start: true,
            session_expiry_interval: 0,
            will_payload: topic.as_ref().map(|_| Bytes::from_static(WILL.as_bytes())),
            will_topic: topic,
            will_qos: None,
            will_retain: None,
        };
        self.hook.on_client_connect(event).await;
    }

    async fn publish(&self, client: &str, user: &str, topic: &str) -> PublishAction {
        let event = ClientPublishEvent {
            client_id: client.into(),
            user_id: Some(user.into()),
            topic: topic.into(),
            payload: Bytes::from_static(b"{}"),
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: Some(1),
            response_topic: None,
            correlation_data: None,
        };
        self.hook.on_client_publish(event).await
    }

    async fn disconnect(&self, client: &str, user: &str, unexpected: bool) {
        let event = ClientDisconnectEvent {
            client_id: client.into(),
            user_id: Some(user.into()),
            reason: ReasonCode::Success,
            unexpected,
        };
        self.hook.on_client_disconnect(event).await;
    }

    /// Key, kind and retained flag of each record.
    fn records(&self) -> Vec<(String, Kind, bool)> {
        let key = |record: &Record| String::from_utf8_lossy(&record.key).into_owned();
        let of = |r: Record| (key(&r), r.headers.kind, r.headers.retained);
        self.log.records().into_iter().map(of).collect()
    }
}

/// The user name under which the crate knows a device of MQTT 3.1.1.
fn user(device: &str, secret: &str) -> String {
    let identity = Identity::Device { id: device.into(), secret: secret.into() };
    Login { v5: false, identity }.to_user()
}

const ANONYMOUS: &str = "4";

#[tokio::test]
async fn a_message_is_handled_once_the_log_has_it() {
    let test = Test::new(&[]);
    let action = test.publish("tool", ANONYMOUS, "acuvim/d1/telemetry").await;
    assert!(matches!(action, PublishAction::Handled));
    // The retain flag of a publisher is not that of a replayed message.
    assert_eq!(test.records(), [("d1".to_owned(), Kind::Telemetry, false)]);
    let action = test.publish("tool", ANONYMOUS, "other/topic").await;
    assert!(matches!(action, PublishAction::Handled), "it is dropped, and must not come again");
    assert_eq!(test.records().len(), 1);
}

/// The crate acknowledges what is handled. So a message that is not stored must be anything else.
#[tokio::test]
async fn a_message_that_is_not_stored_is_not_acknowledged() {
    let test = Test::new(&[]);
    test.log.fail([Failure::Kind(acuvim_log::ErrorKind::Unavailable); 20]);
    let action = test.publish("tool", ANONYMOUS, "acuvim/d1/telemetry").await;
    let PublishAction::Transform(packet) = action else { panic!("it was handled") };
    assert_eq!((packet.qos, packet.payload.len()), (QoS::AtMostOnce, 0));
    assert!(test.records().is_empty());
}

#[tokio::test]
async fn a_device_stores_nothing_for_another() {
    let test = Test::new(&[("d1", Some("s")), ("d2", Some("t"))]);
    for topic in ["acuvim/d2/telemetry", "acuvim/open/telemetry", "acuvim/d1/cmd"] {
        let action = test.publish("d1", &user("d1", "s"), topic).await;
        assert!(matches!(action, PublishAction::Handled), "{topic}");
    }
    assert!(test.records().is_empty());
    test.publish("d1", &user("d1", "s"), "acuvim/d1/telemetry").await;
    assert_eq!(test.records(), [("d1".to_owned(), Kind::Telemetry, false)]);
}

#[tokio::test]
async fn an_anonymous_client_stores_nothing_for_a_device_with_a_secret_from_the_moment_it_has_one()
{
    let test = Test::new(&[("off", None)]);
    test.publish("tool", ANONYMOUS, "acuvim/d1/telemetry").await;
    test.publish("tool", ANONYMOUS, "acuvim/off/telemetry").await;
    assert_eq!(test.records().len(), 1, "a disabled device is guarded too");
    let secrets = [("d1".to_owned(), Some("s".to_owned()))];
    test.known.send_modify(|known| known.secrets = Arc::new(secrets.into_iter().collect()));
    test.publish("tool", ANONYMOUS, "acuvim/d1/telemetry").await;
    assert_eq!(test.records().len(), 1);
}

#[tokio::test]
async fn a_will_is_published_for_a_lost_connection_and_not_for_a_proper_end() {
    let test = Test::new(&[("d1", Some("s"))]);
    let user = user("d1", "s");
    test.connect("d1", &user, Some("d1")).await;
    test.disconnect("d1", &user, false).await;
    assert!(test.records().is_empty());
    test.connect("d1", &user, None).await;
    test.disconnect("d1", &user, true).await;
    assert!(test.records().is_empty(), "it has none");
    test.connect("d1", &user, Some("d1")).await;
    test.disconnect("d1", &user, true).await;
    assert_eq!(test.records(), [("d1".to_owned(), Kind::Status, false)]);
    assert_eq!(test.log.records()[0].value, WILL);
    test.disconnect("d1", &user, true).await;
    assert_eq!(test.records().len(), 1, "once");
}

/// Otherwise the timeout of the old connection would show a device as offline that is back.
#[tokio::test]
async fn the_will_of_a_replaced_connection_is_kept_as_retained() {
    let test = Test::new(&[("d1", Some("s"))]);
    let user = user("d1", "s");
    for client in ["auto-1", "auto-2"] {
        test.connect(client, &user, Some("d1")).await;
    }
    test.disconnect("auto-1", &user, true).await;
    test.disconnect("auto-2", &user, true).await;
    let retained: Vec<bool> = test.records().iter().map(|(_, _, retained)| *retained).collect();
    assert_eq!(retained, [true, false]);
}

/// The will was set while the device had no secret.
#[tokio::test]
async fn an_anonymous_will_of_a_device_that_got_a_secret_since_is_dropped() {
    let test = Test::new(&[]);
    test.connect("tool", ANONYMOUS, Some("d1")).await;
    let secrets = [("d1".to_owned(), Some("s".to_owned()))];
    test.known.send_modify(|known| known.secrets = Arc::new(secrets.into_iter().collect()));
    test.disconnect("tool", ANONYMOUS, true).await;
    assert!(test.records().is_empty());
}
