//! The logged-in connections of each device, to find those whose credentials are not valid any more. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::credentials::{Credentials, Identity};

/// Connections that one device may have: its current one, the one before it, and tools of its maintainers. It
/// can only have several with client ids that the broker generated.
const MAX_OF_DEVICE: usize = 8;

/// All logged-in connections.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// By device, oldest first.
    devices: HashMap<String, Vec<Session>>,
    /// How many connections each anonymous client has: two while it reconnects.
    anonymous: HashMap<Arc<str>, usize>,
}

#[derive(Debug, PartialEq, Eq)]
struct Session {
    client: Arc<str>,
    /// The hash of the secret that it presented.
    secret: String,
}

impl Sessions {
    /// Adds a connection. Returns the oldest client of its device, to be disconnected, if it has too many.
    pub fn connected(&mut self, client: &Arc<str>, identity: Identity) -> Option<Arc<str>> {
        match identity {
            Identity::Anonymous => {
                *self.anonymous.entry(Arc::clone(client)).or_default() += 1;
                None
            }
            Identity::Device { id, secret } => {
                let sessions = self.devices.entry(id).or_default();
                sessions.push(Session { client: Arc::clone(client), secret });
                let oldest = sessions.iter().map(|session| &session.client).find(|c| *c != client);
                // Not the new one: a device that comes back after many broken connections must get in.
                oldest.filter(|_| sessions.len() > MAX_OF_DEVICE).cloned()
            }
        }
    }

    /// Removes one connection of a client, which has two while it reconnects.
    pub fn disconnected(&mut self, client: &Arc<str>, identity: Identity) {
        match identity {
            Identity::Anonymous => match self.anonymous.get_mut(client) {
                Some(connections) if *connections > 1 => *connections -= 1,
                _ => drop(self.anonymous.remove(client)),
            },
            Identity::Device { id, secret } => {
                let Some(sessions) = self.devices.get_mut(&id) else { return };
                let ended = Session { client: Arc::clone(client), secret };
                if let Some(at) = sessions.iter().position(|session| *session == ended) {
                    sessions.remove(at);
                }
                if sessions.is_empty() {
                    self.devices.remove(&id);
                }
            }
        }
    }

    /// Takes out the clients to disconnect after the credentials of a device have changed: those that
    /// presented another secret; an anonymous one that uses the device's id; and of the other `subscribers` to
    /// its commands those without the valid secret, because they subscribed while none was needed.
    pub fn revoke(
        &mut self,
        device: &str,
        valid_secret: Option<&str>,
        subscribers: Vec<Arc<str>>,
    ) -> BTreeSet<Arc<str>> {
        let sessions = self.devices.remove(device).unwrap_or_default();
        // A client that has presented the new secret already was faster than the notice of the change.
        let (valid, ended): (Vec<_>, Vec<_>) =
            sessions.into_iter().partition(|s| valid_secret == Some(s.secret.as_str()));
        let others = subscribers.into_iter().filter(|client| {
            client.as_ref() != device && valid.iter().all(|s| s.client != *client)
        });
        let mut out: BTreeSet<Arc<str>> =
            ended.into_iter().map(|s| s.client).chain(others).collect();
        out.extend(self.anonymous.get_key_value(device).map(|(client, _)| Arc::clone(client)));
        if !valid.is_empty() {
            self.devices.insert(device.to_owned(), valid);
        }
        out
    }
}

/// The device whose credentials do not allow a connection any more; none if they do.
pub(super) fn outdated(
    client: &str,
    identity: &Identity,
    credentials: &Credentials,
) -> Option<String> {
    match identity {
        Identity::Anonymous => credentials.guards(client).then(|| client.to_owned()),
        Identity::Device { id, secret } => {
            let valid = credentials.secrets.get(id).and_then(Option::as_deref);
            (valid != Some(secret.as_str())).then(|| id.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, secret: &str) -> Identity {
        Identity::Device { id: id.to_owned(), secret: secret.to_owned() }
    }

    fn revoked(sessions: &mut Sessions, secret: Option<&str>, subscribers: &[&str]) -> Vec<String> {
        let subscribers = subscribers.iter().map(|client| (*client).into()).collect();
        sessions.revoke("d1", secret, subscribers).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_secret_ends_the_sessions_of_the_old_one() {
        let mut sessions = Sessions::default();
        sessions.connected(&"d1".into(), device("d1", "old"));
        sessions.connected(&"auto-1".into(), device("d1", "old"));
        sessions.connected(&"auto-2".into(), device("d1", "new"));
        sessions.connected(&"d2".into(), device("d2", "old"));
        assert_eq!(revoked(&mut sessions, Some("new"), &[]), ["auto-1", "d1"]);
        assert!(revoked(&mut sessions, Some("new"), &[]).is_empty(), "only once");
        assert_eq!(revoked(&mut sessions, None, &[]), ["auto-2"], "it was disabled");
        assert_eq!(sessions.devices.len(), 1, "the other device stays connected");
    }

    #[test]
    fn who_subscribed_to_a_device_without_a_secret_is_disconnected_when_it_gets_one() {
        let mut sessions = Sessions::default();
        sessions.connected(&"tool".into(), Identity::Anonymous);
        sessions.connected(&"d1".into(), Identity::Anonymous);
        assert_eq!(revoked(&mut sessions, Some("new"), &["tool"]), ["d1", "tool"]);
    }

    #[test]
    fn a_subscriber_that_presented_the_valid_secret_stays() {
        let mut sessions = Sessions::default();
        sessions.connected(&"auto-1".into(), device("d1", "new"));
        assert!(revoked(&mut sessions, Some("new"), &["auto-1", "d1"]).is_empty());
    }

    #[test]
    fn a_device_with_too_many_connections_loses_the_oldest() {
        let mut sessions = Sessions::default();
        let connect = |sessions: &mut Sessions, n: usize| {
            sessions.connected(&format!("auto-{n}").into(), device("d1", "s"))
        };
        for n in 0..MAX_OF_DEVICE {
            assert_eq!(connect(&mut sessions, n), None);
        }
        assert_eq!(connect(&mut sessions, 99).as_deref(), Some("auto-0"));
        sessions.disconnected(&"auto-0".into(), device("d1", "s"));
        assert_eq!(connect(&mut sessions, 100).as_deref(), Some("auto-1"));
    }

    #[test]
    fn a_client_that_reconnects_is_still_there_when_its_old_connection_ends() {
        let mut sessions = Sessions::default();
        for identity in [Identity::Anonymous, device("d1", "s")] {
            let client: Arc<str> = "d1".into();
            sessions.connected(&client, identity.clone());
            sessions.connected(&client, identity.clone());
            sessions.disconnected(&client, identity.clone());
            assert_eq!(sessions.devices.len() + sessions.anonymous.len(), 1, "{identity:?}");
            sessions.disconnected(&client, identity.clone());
            sessions.disconnected(&client, identity);
            assert_eq!(sessions.devices.len() + sessions.anonymous.len(), 0);
        }
    }

    #[test]
    fn a_login_can_be_outdated_by_the_time_it_is_complete() {
        let secrets = [("d1".to_owned(), Some("new".to_owned())), ("off".to_owned(), None)];
        let credentials =
            Credentials { anonymous: true, secrets: Arc::new(secrets.into_iter().collect()) };
        let outdated = |client: &str, identity| outdated(client, &identity, &credentials);
        assert_eq!(outdated("d1", device("d1", "old")).as_deref(), Some("d1"));
        assert_eq!(outdated("d1", device("d1", "new")), None);
        assert_eq!(outdated("auto-1", device("off", "new")).as_deref(), Some("off"));
        assert_eq!(outdated("d9", device("d9", "x")).as_deref(), Some("d9"), "it was deleted");
        assert_eq!(
            outdated("d1", Identity::Anonymous).as_deref(),
            Some("d1"),
            "it has a secret now"
        );
        assert_eq!(outdated("open", Identity::Anonymous), None);
    }
}
