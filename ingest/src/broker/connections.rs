//! Which connection of a device is its newest: the last will that an older one leaves says nothing of
//! the device any more. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use acuvim_schemas::topic::{self, Uplink};
use bytes::Bytes;

/// A last will: topic and payload.
pub(super) type Will = Option<(Arc<str>, Bytes)>;

/// A connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    /// The device that it had to prove to be, or that its will is of.
    device: Option<String>,
    /// Whether it has spoken for devices beside that.
    for_others: bool,
    will: Will,
}

/// A will that a connection has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Its topic.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is of the newest connection of its device.
    pub of_newest: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    count: u64,
    /// Those of each client id, oldest first: while a client reconnects there are two.
    clients: HashMap<Arc<str>, VecDeque<Connection>>,
    /// The newest of each device, by number.
    newest: HashMap<String, u64>,
}

/// The device that a topic is of.
pub(super) fn device_of<'a>(prefix: &str, topic: &'a str) -> Option<&'a str> {
    match topic::parse(prefix, topic) {
        Uplink::Device { device_id, .. } => Some(device_id),
        Uplink::Register | Uplink::BadDeviceId { .. } | Uplink::Foreign => None,
    }
}

impl Connections {
    /// A client has connected: as a device, if it had to prove to be one.
    pub fn connected(&mut self, client: &Arc<str>, device: Option<&str>, will: Will, prefix: &str) {
        self.count += 1;
        let number = self.count;
        let of_will = will.as_ref().and_then(|(topic, _)| device_of(prefix, topic));
        let device = device.or(of_will).map(str::to_owned);
        if let Some(device) = &device {
            self.newest.insert(device.clone(), number);
        }
        let connection = Connection { number, device, for_others: false, will };
        self.clients.entry(Arc::clone(client)).or_default().push_back(connection);
    }

    /// A client that may speak for any device has spoken for one.
    pub fn spoke(&mut self, client: &str, device: &str) {
        let Some(connection) = self.clients.get_mut(client).and_then(VecDeque::back_mut) else {
            return;
        };
        if self.newest.get(device) != Some(&connection.number) {
            self.newest.insert(device.to_owned(), connection.number);
            connection.for_others |= connection.device.as_deref() != Some(device);
        }
    }

    /// The oldest connection of a client has ended; answers with the will that it leaves, unless it
    /// went in order.
    pub fn ended(&mut self, client: &str, unexpected: bool, prefix: &str) -> Option<Left> {
        let theirs = self.clients.get_mut(client)?;
        let ended = theirs.pop_front()?;
        if theirs.is_empty() {
            self.clients.remove(client);
        }
        let will = ended.will.filter(|_| unexpected).map(|(topic, payload)| {
            let of = device_of(prefix, &topic).and_then(|device| self.newest.get(device));
            let of_newest = of.is_none_or(|newest| *newest == ended.number);
            Left { topic, payload, of_newest }
        });
        if ended.for_others {
            self.newest.retain(|_, newest| *newest != ended.number);
        } else if let Some(device) = ended.device
            && self.newest.get(&device) == Some(&ended.number)
        {
            self.newest.remove(&device);
        }
        will
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn will(device: &str) -> Will {
        Some((format!("acuvim/{device}/status").into(), Bytes::from_static(b"offline")))
    }

    fn left(connections: &mut Connections, client: &str, unexpected: bool) -> Option<bool> {
        connections.ended(client, unexpected, "acuvim").map(|left| left.of_newest)
    }

    #[test]
    fn the_will_of_the_newest_connection_is_believed_and_no_other() {
        let mut all = Connections::default();
        let connect = |all: &mut Connections, client: &str, device: Option<&str>| {
            all.connected(&client.into(), device, will("d1"), "acuvim");
        };
        // Random client ids: the device has come back before its old connection timed out.
        connect(&mut all, "auto-1", Some("d1"));
        connect(&mut all, "auto-2", Some("d1"));
        assert_eq!(left(&mut all, "auto-1", true), Some(false));
        assert_eq!(left(&mut all, "auto-2", true), Some(true));
        // One client id: the old connection ends behind the new one's beginning.
        connect(&mut all, "d1", Some("d1"));
        connect(&mut all, "d1", Some("d1"));
        assert_eq!(left(&mut all, "d1", true), Some(false));
        assert_eq!(left(&mut all, "d1", false), None, "it went in order");
        // Without credentials, the device is the will's.
        connect(&mut all, "random-1", None);
        connect(&mut all, "random-2", None);
        assert_eq!(left(&mut all, "random-1", true), Some(false));
        assert!(all.newest.len() == 1 && all.clients.len() == 1);
        assert_eq!(left(&mut all, "random-2", true), Some(true));
        assert!(all.newest.is_empty() && all.clients.is_empty());
    }

    #[test]
    fn a_connection_that_speaks_for_a_device_is_newer_than_the_one_before() {
        let mut all = Connections::default();
        all.connected(&"old".into(), None, will("d1"), "acuvim");
        all.connected(&"new".into(), None, None, "acuvim");
        all.spoke("new", "d1");
        all.spoke("new", "d2");
        assert_eq!(left(&mut all, "old", true), Some(false));
        assert_eq!(left(&mut all, "new", true), None, "it left none");
        assert!(all.newest.is_empty());
        assert_eq!(left(&mut all, "new", true), None);
    }
}
