//! rumqttc's two protocols behind one set of events: nothing else knows which is spoken.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, NetworkOptions,
    Packet, QoS, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport, v5,
};

use super::BridgeOptions;

/// The largest packet taken in MQTT 5, where the broker is told so and keeps larger ones.
const MAX_PACKET: u32 = 16 << 20;

/// The largest packet there is, for 3.1.1, which has no word for a limit: refusing one would break
/// the connection again and again.
const ANY_PACKET: usize = 268_435_455;

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Packets that rumqttc holds for the wire.
const ROOM: usize = 4096;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
    /// What it is acknowledged by; 0 with QoS 0, which asks for nothing.
    pub id: u16,
}

/// What happens on a connection.
pub(super) enum Event {
    Connected {
        session_present: bool,
    },
    /// Whether the broker grants all that was subscribed to.
    Subscribed(Result<(), String>),
    Message(Message),
    /// A message of ours has gone out under this packet id.
    Published(u16),
    /// The broker has acknowledged it.
    Acknowledged {
        id: u16,
        /// Whether it took it for a subscriber; 3.1.1 has no word for that it did not.
        taken: bool,
    },
    /// Our goodbye is sent.
    Disconnected,
    Other,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Lost {
    pub reason: String,
    /// The broker may not know this version of the protocol.
    pub wrong_version: bool,
}

impl Lost {
    pub const fn new(reason: String) -> Self {
        Self { reason, wrong_version: false }
    }
}

/// The sending side.
#[derive(Clone)]
pub(super) struct Client {
    sender: Sender,
    /// Acknowledgements that found no room, in order. A broker may send far more than it was
    /// granted (Mosquitto 2.0 does when it works off a queue), and rumqttc reads ten packets for
    /// each one that it writes: waiting for room here while the receiver waits for messages to be
    /// taken would be waiting for ever.
    owed: Arc<Mutex<VecDeque<u16>>>,
}

#[derive(Clone)]
enum Sender {
    V5(v5::AsyncClient),
    V311(AsyncClient),
}

/// The receiving side, which drives both.
pub(super) enum Wire {
    V5 { events: Box<v5::EventLoop>, connected: bool },
    V311 { events: Box<EventLoop>, connected: bool },
}

/// A client for one connection, in 3.1.1 if `old`.
pub(super) fn open(options: &BridgeOptions, old: bool) -> (Client, Wire) {
    let transport =
        options.tls.clone().map(|tls| Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    // An acknowledgement is small and is waited for.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECTING.as_secs());
    if old {
        let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
        mqtt.set_clean_session(false)
            .set_manual_acks(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(ANY_PACKET, ANY_PACKET);
        if let Some((user, password)) = &options.login {
            mqtt.set_credentials(user, password);
        }
        if let Some(transport) = transport {
            mqtt.set_transport(transport);
        }
        let (client, mut events) = AsyncClient::new(mqtt, ROOM);
        events.set_network_options(network);
        let wire = Wire::V311 { events: Box::new(events), connected: false };
        return (Client::new(Sender::V311(client)), wire);
    }
    let mut mqtt = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
    let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
    mqtt.set_clean_start(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECTING.as_secs())
        .set_network_options(network)
        .set_session_expiry_interval(Some(expiry))
        .set_receive_maximum(Some(options.receive_maximum))
        .set_max_packet_size(Some(MAX_PACKET));
    if let Some((user, password)) = &options.login {
        mqtt.set_credentials(user, password);
    }
    if let Some(transport) = transport {
        mqtt.set_transport(transport);
    }
    let (client, events) = v5::AsyncClient::new(mqtt, ROOM);
    (Client::new(Sender::V5(client)), Wire::V5 { events: Box::new(events), connected: false })
}

impl Client {
    fn new(sender: Sender) -> Self {
        Self { sender, owed: Arc::default() }
    }

    /// Acknowledges a message behind all that were before it; never waits.
    pub fn acknowledge(&self, id: u16) {
        if id == 0 {
            return;
        }
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if !(owed.is_empty() && self.sender.try_acknowledge(id)) {
            owed.push_back(id);
        }
    }

    /// Hands over what is owed as far as there is room; true if nothing is left.
    pub fn pay(&self) -> bool {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(id) = owed.front() {
            if !self.sender.try_acknowledge(*id) {
                return false;
            }
            owed.pop_front();
        }
        true
    }

    /// Subscribes with QoS 1; [`Event::Subscribed`] tells how it went.
    pub fn subscribe(&self, filters: &[String]) {
        let _ = match &self.sender {
            Sender::V5(client) => {
                let filter = |path: &String| v5::mqttbytes::v5::Filter {
                    // A shared subscription has no retained messages, and refuses to be asked.
                    retain_forward_rule: v5::mqttbytes::v5::RetainForwardRule::OnNewSubscribe,
                    ..v5::mqttbytes::v5::Filter::new(path, v5::mqttbytes::QoS::AtLeastOnce)
                };
                client.try_subscribe_many(filters.iter().map(filter)).is_ok()
            }
            Sender::V311(client) => {
                let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
                client.try_subscribe_many(filters.iter().map(filter)).is_ok()
            }
        };
    }

    /// Publishes with QoS 1; false without room. The broker is to forget it after `seconds`, which
    /// 3.1.1 has no word for.
    pub fn publish(&self, topic: &str, payload: Bytes, seconds: u32) -> bool {
        match &self.sender {
            Sender::V5(client) => {
                let properties = v5::mqttbytes::v5::PublishProperties {
                    message_expiry_interval: Some(seconds),
                    ..Default::default()
                };
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                client.try_publish_with_properties(topic, qos, false, payload, properties).is_ok()
            }
            Sender::V311(client) => {
                client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok()
            }
        }
    }

    /// Says goodbye behind everything handed over so far; the session stays. False without room.
    pub fn disconnect(&self) -> bool {
        match &self.sender {
            Sender::V5(client) => client.try_disconnect().is_ok(),
            Sender::V311(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Sender {
    /// False if there is no room; a connection that is gone has no use for it.
    fn try_acknowledge(&self, id: u16) -> bool {
        match self {
            Self::V5(client) => {
                let packet = v5::mqttbytes::v5::Publish {
                    qos: v5::mqttbytes::QoS::AtLeastOnce,
                    pkid: id,
                    ..v5::mqttbytes::v5::Publish::default()
                };
                client.try_ack(&packet).is_ok()
            }
            Self::V311(client) => {
                let mut packet = rumqttc::Publish::new("", QoS::AtLeastOnce, Vec::new());
                packet.pkid = id;
                client.try_ack(&packet).is_ok()
            }
        }
    }
}

impl Wire {
    /// The next event; an error is the connection's end.
    pub async fn poll(&mut self) -> Result<Event, Lost> {
        match self {
            Self::V5 { events, connected } => match events.poll().await {
                Ok(event) => Ok(from_v5(event, connected)),
                Err(error) => Err(lost_v5(&error, *connected)),
            },
            Self::V311 { events, connected } => match events.poll().await {
                Ok(event) => Ok(from_v311(event, connected)),
                Err(error) => Err(lost_v311(&error, *connected)),
            },
        }
    }
}

fn from_v5(event: v5::Event, connected: &mut bool) -> Event {
    use v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(ack)) => {
            *connected = true;
            Event::Connected { session_present: ack.session_present }
        }
        v5::Event::Incoming(Packet::SubAck(ack)) => {
            let refused =
                ack.return_codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
            Event::Subscribed(refused.map_or(Ok(()), |code| Err(not_granted(code))))
        }
        v5::Event::Incoming(Packet::Publish(packet)) => Event::Message(Message {
            topic: String::from_utf8_lossy(&packet.topic).into_owned(),
            payload: packet.payload,
            retained: packet.retain,
            id: packet.pkid,
        }),
        v5::Event::Incoming(Packet::PubAck(ack)) => {
            Event::Acknowledged { id: ack.pkid, taken: ack.reason == PubAckReason::Success }
        }
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => Event::Published(id),
        v5::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}

fn from_v311(event: rumqttc::Event, connected: &mut bool) -> Event {
    match event {
        rumqttc::Event::Incoming(Packet::ConnAck(ack)) => {
            *connected = true;
            Event::Connected { session_present: ack.session_present }
        }
        rumqttc::Event::Incoming(Packet::SubAck(ack)) => {
            let refused =
                ack.return_codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
            Event::Subscribed(refused.map_or(Ok(()), |code| Err(not_granted(code))))
        }
        rumqttc::Event::Incoming(Packet::Publish(packet)) => Event::Message(Message {
            topic: packet.topic,
            payload: packet.payload,
            retained: packet.retain,
            id: packet.pkid,
        }),
        rumqttc::Event::Incoming(Packet::PubAck(ack)) => {
            Event::Acknowledged { id: ack.pkid, taken: true }
        }
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => Event::Published(id),
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}

fn not_granted(code: &impl std::fmt::Debug) -> String {
    format!("the broker does not grant our subscriptions: {code:?}")
}

/// A broker that knows 3.1.1 alone refuses the version, or ends the connection at once.
fn lost_v5(error: &v5::ConnectionError, connected: bool) -> Lost {
    use v5::{ConnectionError, mqttbytes::v5::ConnectReturnCode};
    let refused = matches!(
        error,
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion
                | ConnectReturnCode::UnsupportedProtocolVersion
        ) | ConnectionError::MqttState(_)
            | ConnectionError::NotConnAck(_)
    );
    let ended = matches!(error, ConnectionError::Io(e) if closed(e) || e.kind() == std::io::ErrorKind::InvalidData);
    Lost { reason: error.to_string(), wrong_version: !connected && (refused || ended) }
}

fn lost_v311(error: &ConnectionError, connected: bool) -> Lost {
    let refused = matches!(
        error,
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion)
            | ConnectionError::MqttState(_)
            | ConnectionError::NotConnAck(_)
    );
    let ended = matches!(error, ConnectionError::Io(e) if closed(e));
    Lost { reason: error.to_string(), wrong_version: !connected && (refused || ended) }
}

fn closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof)
}
