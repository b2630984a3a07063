//! A broker of a few packets (MQTT 3.1.1), of which a test sees every byte.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::mqtt::ConnectOptions;

/// A packet: its first byte, and what follows the length.
pub(crate) type Packet = (u8, Vec<u8>);

/// A message as a client has published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    /// The packet id; none with QoS 0.
    pub id: Option<u16>,
}

pub(crate) struct Broker(TcpListener);

/// The broker's side of one connection.
pub(crate) struct Session(TcpStream);

impl Broker {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    pub fn options(&self) -> ConnectOptions {
        ConnectOptions {
            host: "127.0.0.1".into(),
            port: self.port(),
            client_id: "d1".into(),
            login: None,
            will: None,
            subscribe: None,
        }
    }

    /// Takes the next connection and answers its CONNECT, which is returned, with a code.
    pub async fn accept(&self, code: u8) -> (Session, Vec<u8>) {
        let (stream, _) = self.0.accept().await.expect("a connection");
        let mut session = Session(stream);
        let (first, connect) = session.packet().await.expect("a packet");
        assert_eq!(first, 0x10, "CONNECT");
        session.send(&[0x20, 2, 0, code]).await;
        (session, connect)
    }
}

impl Session {
    /// The next packet; none once the client has closed the connection.
    pub async fn packet(&mut self) -> Option<Packet> {
        let first = self.0.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    /// Writes bytes; a client that is gone does not get them.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// The next message of the client.
    pub async fn published(&mut self) -> Published {
        let packet = self.packet().await.expect("a packet");
        published(&packet).expect("a PUBLISH")
    }

    pub async fn acknowledge(&mut self, message: &Published) {
        let [high, low] = message.id.expect("QoS 1").to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Publishes to the client with QoS 0.
    pub async fn publish(&mut self, topic: &str, payload: &str) {
        let length = 2 + topic.len() + payload.len();
        assert!(length < 128 && topic.len() < 128, "one byte of length");
        let head = [0x30, length as u8, 0, topic.len() as u8];
        self.send(&[&head[..], topic.as_bytes(), payload.as_bytes()].concat()).await;
    }
}

/// The message of a packet, if that is a PUBLISH.
pub(crate) fn published((first, body): &Packet) -> Option<Published> {
    if first >> 4 != 3 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, rest) = body[2..].split_at(length);
    let has_id = first & 0b110 != 0;
    let id = has_id.then(|| u16::from_be_bytes([rest[0], rest[1]]));
    let payload = &rest[if has_id { 2 } else { 0 }..];
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Some(Published { topic: text(topic), payload: text(payload), retained: first & 1 == 1, id })
}
