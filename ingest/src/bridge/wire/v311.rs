//! MQTT 3.1.1.

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event as RawEvent, EventLoop, MqttOptions,
    Outgoing, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
};

use super::{
    events::{ConnectionLost, Event, Message, is_closed, not_granted},
    setup::{KEEP_ALIVE, QUEUE, network, transport},
};
use crate::bridge::options::BridgeOptions;

/// The largest packet of the protocol. A client can't tell the broker a limit, so a packet over one
/// would break the connection again and again.
const MAX_PACKET: usize = 268_435_455;

pub(super) fn open(options: &BridgeOptions) -> (AsyncClient, EventLoop) {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    // As with version 5: messages wait for us in the session.
    mqtt.set_clean_session(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(MAX_PACKET, MAX_PACKET);
    if let Some((user, password)) = &options.login {
        mqtt.set_credentials(user, password);
    }
    if let Some(transport) = transport(options) {
        mqtt.set_transport(transport);
    }
    let (client, mut events) = AsyncClient::new(mqtt, QUEUE);
    events.set_network_options(network());
    (client, events)
}

pub(super) fn subscribe(client: &AsyncClient, filters: &[String]) {
    let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
    // Fails only if the connection is gone, which the next poll reports.
    let _ = client.try_subscribe_many(filters.iter().map(filter));
}

pub(super) fn publish(client: &AsyncClient, topic: &str, payload: Bytes) -> bool {
    client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok()
}

pub(super) fn acknowledge(client: &AsyncClient, id: u16) -> bool {
    let mut packet = Publish::new("", QoS::AtLeastOnce, Vec::new());
    packet.pkid = id;
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
            topic: packet.topic,
            payload: packet.payload,
            retained: packet.retain,
            id: packet.pkid,
        }),
        RawEvent::Incoming(Packet::PubAck(ack)) => {
            Event::Acknowledged { id: ack.pkid, taken: true }
        }
        RawEvent::Outgoing(Outgoing::Publish(id)) => Event::Published(id),
        RawEvent::Outgoing(Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}

pub(super) fn lost(error: &ConnectionError, connected: bool) -> ConnectionLost {
    let refused = matches!(
        error,
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion)
            | ConnectionError::MqttState(_)
            | ConnectionError::NotConnAck(_)
    );
    let ended = matches!(error, ConnectionError::Io(e) if is_closed(e));
    ConnectionLost { reason: error.to_string(), wrong_version: !connected && (refused || ended) }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rumqttc::{ConnAck, PubAck, SubAck};

    use super::*;

    #[test]
    fn only_a_refused_version_or_a_closed_connection_speaks_for_another_version() {
        let io = |kind: io::ErrorKind| ConnectionError::Io(kind.into());
        for (error, wrong_version) in [
            (ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion), true),
            (ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized), false),
            (ConnectionError::NotConnAck(Packet::PingResp), true),
            (io(io::ErrorKind::UnexpectedEof), true),
            (io(io::ErrorKind::ConnectionRefused), false),
            (ConnectionError::NetworkTimeout, false),
        ] {
            assert_eq!(lost(&error, false).wrong_version, wrong_version, "{error}");
            assert!(!lost(&error, true).wrong_version, "{error}: the version was accepted before");
        }
    }

    #[test]
    fn a_message_keeps_its_id_and_whether_it_was_retained() {
        let mut packet = Publish::new("acuvim/d1/status", QoS::AtLeastOnce, "offline");
        (packet.pkid, packet.retain) = (7, true);
        let mut connected = false;
        let Event::Message(message) =
            event(RawEvent::Incoming(Packet::Publish(packet)), &mut connected)
        else {
            panic!("a message")
        };
        assert_eq!((message.topic.as_str(), message.id), ("acuvim/d1/status", 7));
        assert!(message.retained && message.payload.as_ref() == b"offline");
        assert!(!connected);
    }

    /// Without one of the topics, readings or answers of all devices would be missing.
    #[test]
    fn one_filter_that_is_not_granted_is_enough_for_an_error() {
        let subscribed = |codes: Vec<SubscribeReasonCode>| {
            let packet = RawEvent::Incoming(Packet::SubAck(SubAck::new(1, codes)));
            let Event::Subscribed(result) = event(packet, &mut false) else { panic!("SUBACK") };
            result
        };
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        assert_eq!(subscribed(vec![granted; 6]), Ok(()));
        let reason = subscribed(vec![granted, granted, SubscribeReasonCode::Failure]);
        assert!(reason.expect_err("refused").contains("does not grant our subscriptions"));
    }

    #[test]
    fn what_happens_to_our_messages_is_seen() {
        let mut connected = false;
        let ack = ConnAck::new(ConnectReturnCode::Success, true);
        let packet = RawEvent::Incoming(Packet::ConnAck(ack));
        let seen = event(packet, &mut connected);
        assert!(matches!(seen, Event::Connected { session_present: true }) && connected);
        let sent = event(RawEvent::Outgoing(Outgoing::Publish(9)), &mut connected);
        assert!(matches!(sent, Event::Published(9)));
        let taken = event(RawEvent::Incoming(Packet::PubAck(PubAck::new(9))), &mut connected);
        assert!(matches!(taken, Event::Acknowledged { id: 9, taken: true }));
        let end = event(RawEvent::Outgoing(Outgoing::Disconnect), &mut connected);
        assert!(matches!(end, Event::Disconnected));
        let other = event(RawEvent::Outgoing(Outgoing::PingReq), &mut connected);
        assert!(matches!(other, Event::Other));
    }
}
