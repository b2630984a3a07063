//! Which connection of a device is the newest: the last will of an older connection says nothing about the
//! device, which has connected again since. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use acuvim_wire::topic::{self, Uplink};
use bytes::Bytes;

/// Topic and payload of a last will.
pub(super) type Will = Option<(Arc<str>, Bytes)>;

#[derive(Debug)]
struct Connection {
    number: u64,
    /// The device that it is authenticated as, or else that of its will.
    device: Option<String>,
    /// Whether it has published for other devices as well.
    for_others: bool,
    will: Will,
}

/// The last will of a connection that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastWill {
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// Whether the connection was the newest of its device.
    pub of_newest: bool,
}

/// All connections, and which of them is the newest of each device.
#[derive(Debug, Default)]
pub(super) struct Connections {
    count: u64,
    /// By client id, oldest first: there are two while a client reconnects.
    clients: HashMap<Arc<str>, VecDeque<Connection>>,
    /// The number of the newest connection of each device.
    newest: HashMap<String, u64>,
}

/// The device that a topic belongs to.
pub(super) fn device_of<'a>(prefix: &str, topic: &'a str) -> Option<&'a str> {
    match topic::parse(prefix, topic) {
        Uplink::Device { device_id, .. } => Some(device_id),
        Uplink::Register | Uplink::BadDeviceId { .. } | Uplink::Foreign => None,
    }
}

impl Connections {
    /// A client has connected, authenticated as this device if there is one.
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

    /// An anonymous client has published for a device.
    pub fn published_for(&mut self, client: &str, device: &str) {
        let Some(connection) = self.clients.get_mut(client).and_then(VecDeque::back_mut) else {
            return;
        };
        if self.newest.get(device) != Some(&connection.number) {
            self.newest.insert(device.to_owned(), connection.number);
            connection.for_others |= connection.device.as_deref() != Some(device);
        }
    }

    /// The oldest connection of a client has ended. Returns its last will, unless it ended with a DISCONNECT.
    pub fn ended(&mut self, client: &str, unexpected: bool, prefix: &str) -> Option<LastWill> {
        let theirs = self.clients.get_mut(client)?;
        // The broker crate reports the end of the replaced connection first.
        let ended = theirs.pop_front()?;
        if theirs.is_empty() {
            self.clients.remove(client);
        }
        let will = ended.will.filter(|_| unexpected).map(|(topic, payload)| {
            let of = device_of(prefix, &topic).and_then(|device| self.newest.get(device));
            // A will for no device concerns no state, so it is published as it is.
            let of_newest = of.is_none_or(|newest| *newest == ended.number);
            LastWill { topic, payload, of_newest }
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

    fn end(connections: &mut Connections, client: &str, unexpected: bool) -> Option<bool> {
        connections.ended(client, unexpected, "acuvim").map(|will| will.of_newest)
    }

    #[test]
    fn only_the_will_of_the_newest_connection_counts() {
        let mut all = Connections::default();
        let connect = |all: &mut Connections, client: &str, device: Option<&str>| {
            all.connected(&client.into(), device, will("d1"), "acuvim");
        };
        // Random client ids: the device has come back before its old connection timed out.
        connect(&mut all, "auto-1", Some("d1"));
        connect(&mut all, "auto-2", Some("d1"));
        assert_eq!(end(&mut all, "auto-1", true), Some(false));
        assert_eq!(end(&mut all, "auto-2", true), Some(true));
        // One client id: the old connection ends behind the new one's beginning.
        connect(&mut all, "d1", Some("d1"));
        connect(&mut all, "d1", Some("d1"));
        assert_eq!(end(&mut all, "d1", true), Some(false));
        assert_eq!(end(&mut all, "d1", false), None, "it went in order");
        // Without credentials, the device is the will's.
        connect(&mut all, "random-1", None);
        connect(&mut all, "random-2", None);
        assert_eq!(end(&mut all, "random-1", true), Some(false));
        assert!(all.newest.len() == 1 && all.clients.len() == 1);
        assert_eq!(end(&mut all, "random-2", true), Some(true));
        assert!(all.newest.is_empty() && all.clients.is_empty());
    }

    #[test]
    fn a_will_for_no_device_is_published_as_it_is() {
        let mut all = Connections::default();
        let topic = Some(("other/topic".into(), Bytes::new()));
        all.connected(&"tool".into(), None, topic, "acuvim");
        let will = all.ended("tool", true, "acuvim").expect("a will");
        assert!(will.of_newest && &*will.topic == "other/topic");
        assert!(all.newest.is_empty() && all.clients.is_empty());
    }

    /// Its own device is not forgotten because it has spoken for others too, or the other way round.
    #[test]
    fn the_end_of_a_connection_takes_back_all_that_it_was_the_newest_of() {
        let mut all = Connections::default();
        all.connected(&"gateway".into(), None, will("d1"), "acuvim");
        for device in ["d2", "d3", "d1"] {
            all.published_for("gateway", device);
        }
        all.connected(&"other".into(), Some("d3"), None, "acuvim");
        assert_eq!(all.newest.len(), 3);
        assert_eq!(end(&mut all, "gateway", true), Some(true));
        assert_eq!(all.newest.keys().collect::<Vec<_>>(), ["d3"], "of the other connection");
        all.published_for("gateway", "d9");
        assert_eq!(all.newest.len(), 1, "a connection that has ended is the newest of nothing");
    }

    #[test]
    fn an_anonymous_connection_is_the_newest_of_the_devices_it_publishes_for() {
        let mut all = Connections::default();
        all.connected(&"old".into(), None, will("d1"), "acuvim");
        all.connected(&"new".into(), None, None, "acuvim");
        all.published_for("new", "d1");
        all.published_for("new", "d2");
        assert_eq!(end(&mut all, "old", true), Some(false));
        assert_eq!(end(&mut all, "new", true), None, "it left none");
        assert!(all.newest.is_empty());
        assert_eq!(end(&mut all, "new", true), None);
    }
}
