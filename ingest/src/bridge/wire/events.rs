//! The events of a connection, the same for both protocol versions.

use bytes::Bytes;

/// A message as it was received.
#[derive(Debug)]
pub(crate) struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
    /// The packet id of its acknowledgement; 0 with QoS 0, which has none.
    pub id: u16,
}

/// What happens on a connection.
pub(crate) enum Event {
    Connected {
        session_present: bool,
    },
    /// Whether the broker grants all subscriptions.
    Subscribed(Result<(), String>),
    Message(Message),
    /// A message of ours was sent with this packet id.
    Published(u16),
    /// The broker has acknowledged our message.
    Acknowledged {
        id: u16,
        /// Whether there was a subscriber; always true with 3.1.1, which does not tell.
        taken: bool,
    },
    /// Our DISCONNECT is sent.
    Disconnected,
    Other,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct ConnectionLost {
    pub reason: String,
    /// The broker may not know this version of the protocol.
    pub wrong_version: bool,
}

impl ConnectionLost {
    pub const fn new(reason: String) -> Self {
        Self { reason, wrong_version: false }
    }
}

pub(super) fn not_granted(code: &impl std::fmt::Debug) -> String {
    format!("the broker does not grant our subscriptions: {code:?}")
}

/// Whether the broker has closed the connection without a word.
pub(super) fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof)
}
