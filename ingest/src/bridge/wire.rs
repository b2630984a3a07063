//! rumqttc's two protocols behind one set of events: nothing else knows which is spoken.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport, v5,
};

use super::BridgeOptions;

/// The largest packet taken in MQTT 5, where the broker is told so and keeps larger ones.
const MAX_PACKET: u32 = 16 << 20;

/// The largest packet there is, for 3.1.1, which has no word for a limit: refusing one would break
/// the connection again and again.
const ANY_PACKET: usize = 268_435_455;

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Room for every acknowledgement that may ever be owed, since a packet id has 16 bits: handing one
/// over must not wait for the wire, which may itself wait for messages to be taken.
const ROOM: usize = 66_000;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A message, and what is needed to acknowledge it.
#[derive(Debug)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
    packet: Acknowledged,
}

/// The packet in the terms of its protocol, its payload aside.
#[derive(Debug)]
enum Acknowledged {
    V5(Box<v5::mqttbytes::v5::Publish>),
    V311(rumqttc::Publish),
}

/// What happens on a connection.
pub(super) enum Event {
    Connected {
        session_present: bool,
    },
    /// Whether the broker grants all that was subscribed to.
    Subscribed(Result<(), String>),
    Message(Message),
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
pub(super) enum Client {
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
        let (client, events) = AsyncClient::new(mqtt, ROOM);
        let wire = Wire::V311 { events: Box::new(events), connected: false };
        return (Client::V311(client), wire);
    }
    let mut mqtt = v5::MqttOptions::new(&options.client_id, &options.host, options.port);
    let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
    mqtt.set_clean_start(false)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECTING.as_secs())
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
    (Client::V5(client), Wire::V5 { events: Box::new(events), connected: false })
}

impl Client {
    /// Hands the acknowledgement over; a connection that is gone has no use for it.
    pub async fn acknowledge(&self, message: &Message) {
        let _ = match (self, &message.packet) {
            (Self::V5(client), Acknowledged::V5(packet)) => client.ack(packet).await.is_ok(),
            (Self::V311(client), Acknowledged::V311(packet)) => client.ack(packet).await.is_ok(),
            (Self::V5(_), Acknowledged::V311(_)) | (Self::V311(_), Acknowledged::V5(_)) => false,
        };
    }

    /// Subscribes with QoS 1; [`Event::Subscribed`] tells how it went.
    pub fn subscribe(&self, filters: &[String]) {
        let _ = match self {
            Self::V5(client) => {
                let filter = |path: &String| v5::mqttbytes::v5::Filter {
                    // A shared subscription has no retained messages, and refuses to be asked.
                    retain_forward_rule: v5::mqttbytes::v5::RetainForwardRule::OnNewSubscribe,
                    ..v5::mqttbytes::v5::Filter::new(path, v5::mqttbytes::QoS::AtLeastOnce)
                };
                client.try_subscribe_many(filters.iter().map(filter)).is_ok()
            }
            Self::V311(client) => {
                let filter = |path: &String| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce);
                client.try_subscribe_many(filters.iter().map(filter)).is_ok()
            }
        };
    }

    /// Says goodbye behind everything handed over so far; the session stays.
    pub fn disconnect(&self) {
        let _ = match self {
            Self::V5(client) => client.try_disconnect().is_ok(),
            Self::V311(client) => client.try_disconnect().is_ok(),
        };
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
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
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
        v5::Event::Incoming(Packet::Publish(mut packet)) => Event::Message(Message {
            topic: String::from_utf8_lossy(&packet.topic).into_owned(),
            payload: std::mem::take(&mut packet.payload),
            retained: packet.retain,
            packet: Acknowledged::V5(Box::new(packet)),
        }),
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
        rumqttc::Event::Incoming(Packet::Publish(mut packet)) => Event::Message(Message {
            topic: std::mem::take(&mut packet.topic),
            payload: std::mem::take(&mut packet.payload),
            retained: packet.retain,
            packet: Acknowledged::V311(packet),
        }),
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
