//! MQTT 5.

use bytes::Bytes;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event as RawEvent, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{
                ConnectReturnCode, Filter, Packet, PubAckReason, Publish, PublishProperties,
                RetainForwardRule, SubscribeReasonCode,
            },
        },
    },
};

use super::{
    events::{ConnectionLost, Event, Message, is_closed, not_granted},
    setup::{CONNECTING, KEEP_ALIVE, QUEUE, network, transport},
};
use crate::bridge::options::BridgeOptions;

/// The largest packet that the broker may send. It is told so, and keeps larger ones.
const MAX_PACKET: u32 = 16 << 20;

pub(super) fn open(options: &BridgeOptions) -> (AsyncClient, EventLoop) {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
    // The session at the broker keeps what devices send while we are away.
    mqtt.set_clean_start(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECTING.as_secs())
        .set_network_options(network())
        .set_session_expiry_interval(Some(expiry))
        .set_receive_maximum(Some(options.receive_maximum))
        .set_max_packet_size(Some(MAX_PACKET));
    if let Some((user, password)) = &options.login {
        mqtt.set_credentials(user, password);
    }
    if let Some(transport) = transport(options) {
        mqtt.set_transport(transport);
    }
    AsyncClient::new(mqtt, QUEUE)
}

pub(super) fn subscribe(client: &AsyncClient, filters: &[String]) {
    let filter = |path: &String| Filter {
        // Shared subscriptions have no retained messages, and refuse another rule.
        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        ..Filter::new(path, QoS::AtLeastOnce)
    };
    // Fails only if the connection is gone, which the next poll reports.
    let _ = client.try_subscribe_many(filters.iter().map(filter));
}

pub(super) fn publish(client: &AsyncClient, topic: &str, payload: Bytes, seconds: u32) -> bool {
    let properties =
        PublishProperties { message_expiry_interval: Some(seconds), ..Default::default() };
    let qos = QoS::AtLeastOnce;
    client.try_publish_with_properties(topic, qos, false, payload, properties).is_ok()
}

pub(super) fn acknowledge(client: &AsyncClient, id: u16) -> bool {
    let packet = Publish { qos: QoS::AtLeastOnce, pkid: id, ..Publish::default() };
    client.try_ack(&packet).is_ok()
}

pub(super) fn event(event: RawEvent, connected: &mut bool) -> Event {
    match event {
        RawEvent::Incoming(Packet::ConnAck(ack)) => {
            *connected = true;
            Event::Connected { session_present: ack.session_present }
        }
        RawEvent::Incoming(Packet::SubAck(ack)) => {
            let refused =
                ack.return_codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
            Event::Subscribed(refused.map_or(Ok(()), |code| Err(not_granted(code))))
        }
        RawEvent::Incoming(Packet::Publish(packet)) => Event::Message(Message {
            topic: String::from_utf8_lossy(&packet.topic).into_owned(),
            payload: packet.payload,
            retained: packet.retain,
            id: packet.pkid,
        }),
        RawEvent::Incoming(Packet::PubAck(ack)) => {
            Event::Acknowledged { id: ack.pkid, taken: ack.reason == PubAckReason::Success }
        }
        RawEvent::Outgoing(Outgoing::Publish(id)) => Event::Published(id),
        RawEvent::Outgoing(Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}

/// A broker that only knows 3.1.1 refuses the version, or closes the connection at once.
pub(super) fn lost(error: &ConnectionError, connected: bool) -> ConnectionLost {
    let refused = matches!(
        error,
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion
                | ConnectReturnCode::UnsupportedProtocolVersion
        ) | ConnectionError::MqttState(_)
            | ConnectionError::NotConnAck(_)
    );
    let ended = matches!(
        error,
        ConnectionError::Io(e) if is_closed(e) || e.kind() == std::io::ErrorKind::InvalidData
    );
    ConnectionLost { reason: error.to_string(), wrong_version: !connected && (refused || ended) }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Only MQTT 5 tells that nobody subscribes to a command.
    #[test]
    fn a_command_that_has_no_subscriber_is_not_taken() {
        use rumqttc::v5::mqttbytes::v5::PubAck;
        for (reason, is_taken) in [
            (PubAckReason::Success, true),
            (PubAckReason::NoMatchingSubscribers, false),
            (PubAckReason::NotAuthorized, false),
        ] {
            let ack = PubAck { pkid: 9, reason, properties: None };
            let seen = event(RawEvent::Incoming(Packet::PubAck(ack)), &mut true);
            let Event::Acknowledged { id: 9, taken } = seen else { panic!("a PUBACK") };
            assert_eq!(taken, is_taken, "{reason:?}");
        }
    }

    /// A topic is text, and one that is not must not end the connection of all devices.
    #[test]
    fn a_topic_that_is_no_text_is_a_message_nevertheless() {
        let packet =
            Publish { topic: Bytes::from_static(b"a/\xff"), pkid: 3, ..Publish::default() };
        let Event::Message(message) = event(RawEvent::Incoming(Packet::Publish(packet)), &mut true)
        else {
            panic!("a message")
        };
        assert_eq!((message.topic.as_str(), message.id), ("a/\u{fffd}", 3));
    }

    #[test]
    fn a_broker_that_refuses_the_version_or_hangs_up_may_know_another() {
        let io = |kind: io::ErrorKind| ConnectionError::Io(kind.into());
        let refused = ConnectionError::ConnectionRefused;
        for (error, wrong_version) in [
            (refused(ConnectReturnCode::UnsupportedProtocolVersion), true),
            (refused(ConnectReturnCode::RefusedProtocolVersion), true),
            (refused(ConnectReturnCode::NotAuthorized), false),
            (io(io::ErrorKind::UnexpectedEof), true),
            (io(io::ErrorKind::ConnectionAborted), true),
            (io(io::ErrorKind::InvalidData), true),
            (io(io::ErrorKind::ConnectionRefused), false),
        ] {
            assert_eq!(lost(&error, false).wrong_version, wrong_version, "{error}");
            assert!(!lost(&error, true).wrong_version, "{error}: the version was accepted before");
        }
    }
}
