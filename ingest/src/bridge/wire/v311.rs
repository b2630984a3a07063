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
