//! The two protocol versions of rumqttc behind one set of events: the rest of the bridge does not know
//! which one is spoken.

mod events;
mod setup;
mod v311;
mod v5;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::options::BridgeOptions;
pub(super) use events::{ConnectionLost, Event, Message};

/// The sending side of a connection.
#[derive(Clone)]
pub(super) struct Client {
    sender: Sender,
    /// Acknowledgements for which rumqttc's queue had no room, in order. Waiting for room could block
    /// for ever: a broker may send far more than it was granted (Mosquitto 2.0 does while it works off
    /// its queue), and rumqttc reads ten packets for each one it writes. So the queue stays full while
    /// the receiving side waits for messages to be taken, and those wait for their acknowledgements.
    unsent: Arc<Mutex<VecDeque<u16>>>,
}

#[derive(Clone)]
enum Sender {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The receiving side, which drives both.
pub(super) enum Wire {
    V5 { events: Box<rumqttc::v5::EventLoop>, connected: bool },
    V311 { events: Box<rumqttc::EventLoop>, connected: bool },
}

/// Opens a connection, with MQTT 3.1.1 or 5. It is made with the first poll.
pub(super) fn open(options: &BridgeOptions, v311: bool) -> (Client, Wire) {
    if v311 {
        let (client, events) = v311::open(options);
        let wire = Wire::V311 { events: Box::new(events), connected: false };
        return (Client::new(Sender::V311(client)), wire);
    }
    let (client, events) = v5::open(options);
    (Client::new(Sender::V5(client)), Wire::V5 { events: Box::new(events), connected: false })
}

impl Client {
    fn new(sender: Sender) -> Self {
        Self { sender, unsent: Arc::default() }
    }

    /// Acknowledges a message after all those before it; never waits.
    pub fn acknowledge(&self, id: u16) {
        if id == 0 {
            return;
        }
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if !(unsent.is_empty() && self.sender.try_acknowledge(id)) {
            unsent.push_back(id);
        }
    }

    /// Sends acknowledgements that had no room before; returns whether none is left.
    pub fn flush_acknowledgements(&self) -> bool {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(id) = unsent.front() {
            if !self.sender.try_acknowledge(*id) {
                return false;
            }
            unsent.pop_front();
        }
        true
    }

    /// Subscribes with QoS 1. The result comes as [`Event::Subscribed`].
    pub fn subscribe(&self, filters: &[String]) {
        match &self.sender {
            Sender::V5(client) => v5::subscribe(client, filters),
            Sender::V311(client) => v311::subscribe(client, filters),
        }
    }

    /// Publishes with QoS 1; false if there is no room. The broker drops the message after `seconds`, except
    /// with 3.1.1, which has no expiry.
    pub fn publish(&self, topic: &str, payload: Bytes, seconds: u32) -> bool {
        match &self.sender {
            Sender::V5(client) => v5::publish(client, topic, payload, seconds),
            Sender::V311(client) => v311::publish(client, topic, payload),
        }
    }

    /// Sends DISCONNECT after everything handed over so far; the session stays. False if there is no room.
    pub fn disconnect(&self) -> bool {
        match &self.sender {
            Sender::V5(client) => client.try_disconnect().is_ok(),
            Sender::V311(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Sender {
    /// False if there is no room, or the connection is gone.
    fn try_acknowledge(&self, id: u16) -> bool {
        match self {
            Self::V5(client) => v5::acknowledge(client, id),
            Self::V311(client) => v311::acknowledge(client, id),
        }
    }
}

impl Wire {
    /// The next event; an error ends the connection.
    pub async fn poll(&mut self) -> Result<Event, ConnectionLost> {
        match self {
            Self::V5 { events, connected } => match events.poll().await {
                Ok(event) => Ok(v5::event(event, connected)),
                Err(error) => Err(v5::lost(&error, *connected)),
            },
            Self::V311 { events, connected } => match events.poll().await {
                Ok(event) => Ok(v311::event(event, connected)),
                Err(error) => Err(v311::lost(&error, *connected)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
