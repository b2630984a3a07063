//! Who may connect, and as whom: judged on values that the composition root keeps fresh.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use acuvim_schemas::{
    DeviceKind, Kind,
    device::is_device_id,
    payload::registering_device,
    topic::{self, Uplink},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

/// How long a refused login waits for newer credentials.
const LOOK: Duration = Duration::from_secs(1);

/// The hash of each device's secret, as control stores it; none for a device that is disabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Whether a client on this machine needs none.
    pub anonymous: bool,
    /// By device id.
    pub secrets: Arc<HashMap<String, Option<String>>>,
}

/// The credentials as whoever knows them keeps them up to date.
#[derive(Debug, Clone)]
pub struct CredentialsWatch {
    /// The newest.
    pub values: watch::Receiver<Credentials>,
    /// Notified when a login was refused: the newest may be a moment old.
    pub look: Arc<Notify>,
}

impl CredentialsWatch {
    /// Who it is; none if it may not connect. A secret that was made a moment ago is as good as any:
    /// before one is refused, there is a look for newer ones. Who guesses pays with that time.
    pub(crate) async fn admit(&self, access: &Access<'_>, prefix: &str) -> Option<Identity> {
        let mut values = self.values.clone();
        let known = values.borrow_and_update().admit(access, prefix);
        if known.is_some() || access.username.is_none() {
            return known;
        }
        self.look.notify_one();
        let changed = tokio::time::timeout(LOOK, values.changed()).await;
        changed.ok()?.ok()?;
        values.borrow().admit(access, prefix)
    }
}

/// Who a connection turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular, on this machine: may speak for any device that has no secret.
    Anonymous,
    /// A device that has shown its secret: may speak for itself.
    Device {
        /// Which.
        id: String,
        /// The hash of what it has shown.
        secret: String,
    },
}

/// What a connection shows.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The MQTT client id.
    pub client_id: &'a str,
    /// The MQTT user name.
    pub username: Option<&'a str>,
    /// The MQTT password.
    pub password: Option<&'a [u8]>,
    /// Where it comes from.
    pub from: IpAddr,
    /// Whether a web page opened it, whose address says nothing of who wrote it.
    pub from_a_page: bool,
    /// The topic of its last will.
    pub will_topic: Option<&'a str>,
}

impl Credentials {
    /// Who it is; none if it may not connect.
    ///
    /// A device's client id must be its device id (or none, so that it gets a random one):
    /// otherwise one device could take over the connection of another.
    #[must_use]
    pub fn admit(&self, access: &Access<'_>, prefix: &str) -> Option<Identity> {
        let identity = match access.username {
            None if self.lets_in_anyone(access) => Identity::Anonymous,
            None => return None,
            Some(device) => {
                let stored = self.secrets.get(device)?.as_deref()?;
                let own_client = access.client_id == device || is_random(access.client_id);
                let shown = hash(access.password?);
                (own_client && same(stored.as_bytes(), shown.as_bytes())).then_some(())?;
                Identity::Device { id: device.to_owned(), secret: shown }
            }
        };
        // The broker crate publishes a will past our hook, and keeps a retained one for every topic
        // there is: it may go nowhere but to the status of a device that its sender may speak for.
        let will_is_own = match (&identity, access.will_topic) {
            (_, None) => true,
            (Identity::Device { id, .. }, Some(topic)) => topic == status_topic(id, prefix),
            (Identity::Anonymous, Some(topic)) => match topic::parse(prefix, topic) {
                Uplink::Device { device_id, kind: DeviceKind::Status } => !self.guards(device_id),
                _ => false,
            },
        };
        will_is_own.then_some(identity)
    }

    /// Whether a device is spoken for by itself alone: it has a secret, or is disabled.
    #[must_use]
    pub fn guards(&self, device: &str) -> bool {
        self.secrets.contains_key(device)
    }

    /// Who needs no credentials: a program on this machine that does not pose as a guarded device.
    fn lets_in_anyone(&self, access: &Access<'_>) -> bool {
        self.anonymous
            && access.password.is_none()
            && access.from.is_loopback()
            && !access.from_a_page
            && !self.guards(access.client_id)
    }

    /// Whether a message may come of anybody: one of a guarded device is that device's alone.
    pub(crate) fn anyone_may_say(&self, prefix: &str, topic: &str, payload: &[u8]) -> bool {
        match topic::parse(prefix, topic) {
            Uplink::Device { device_id, .. } => !self.guards(device_id),
            Uplink::Register => registering_device(payload).is_none_or(|id| !self.guards(&id)),
            // They go no further, or are nobody's.
            Uplink::BadDeviceId { .. } | Uplink::Foreign => true,
        }
    }

    /// Whether anybody may listen to a filter: to one device at a time, and to no guarded one. Of a
    /// wildcard nobody can say whose commands it will carry.
    pub(crate) fn anyone_may_hear(&self, prefix: &str, filter: &str) -> bool {
        let device = filter
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_suffix("/cmd"));
        device.is_some_and(|device| is_device_id(device) && !self.guards(device))
    }
}

fn status_topic(device: &str, prefix: &str) -> String {
    topic::uplink(prefix, device, Kind::Status)
}

/// Whether a topic is below a device's own.
pub(crate) fn owns(device: &str, topic: &str, prefix: &str) -> bool {
    topic
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.strip_prefix(device))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// A client id that the broker made, since the client gave none.
fn is_random(client_id: &str) -> bool {
    client_id.strip_prefix("auto-").is_some_and(|hex| hex.len() == 32)
}

fn hash(secret: &[u8]) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn credentials() -> Credentials {
        let secrets = [
            ("d1".to_owned(), Some(hash(b"one"))),
            ("d2".to_owned(), Some(hash(b"two"))),
            ("off".to_owned(), None),
        ];
        Credentials { anonymous: true, secrets: Arc::new(secrets.into_iter().collect()) }
    }

    fn access<'a>(username: Option<&'a str>, password: Option<&'a [u8]>) -> Access<'a> {
        Access {
            client_id: username.unwrap_or("x"),
            username,
            password,
            from: Ipv4Addr::new(10, 0, 0, 9).into(),
            from_a_page: false,
            will_topic: None,
        }
    }

    fn admit(access: &Access<'_>) -> Option<Identity> {
        credentials().admit(access, "acuvim")
    }

    #[test]
    fn a_device_shows_its_own_secret() {
        let d1 = Some(Identity::Device { id: "d1".into(), secret: hash(b"one") });
        assert_eq!(admit(&access(Some("d1"), Some(b"one"))), d1);
        for (user, password) in [
            ("d1", Some(&b"two"[..])),
            ("d1", None),
            ("off", Some(b"")),
            ("d9", Some(b"one")),
            ("", Some(b"")),
        ] {
            assert_eq!(admit(&access(Some(user), password)), None, "{user}");
        }
    }

    #[test]
    fn anonymous_only_from_this_machine_and_without_a_password() {
        assert_eq!(admit(&access(None, None)), None);
        let local = Access { from: Ipv4Addr::LOCALHOST.into(), ..access(None, None) };
        assert_eq!(admit(&local), Some(Identity::Anonymous));
        assert_eq!(admit(&Access { password: Some(b"x"), ..local }), None);
        let closed = Credentials { anonymous: false, ..credentials() };
        assert_eq!(closed.admit(&local, "acuvim"), None, "unless that is switched off");
        let page = Access { from_a_page: true, ..local };
        assert_eq!(admit(&page), None, "a web page is on this machine and yet not of it");
        let wrong = Access { username: Some("d1"), password: Some(b"x"), ..local };
        assert_eq!(admit(&wrong), None, "wrong credentials are not anonymous");
    }

    #[test]
    fn nobody_takes_anothers_client_id_or_will_topic() {
        let d1 = access(Some("d1"), Some(b"one"));
        assert_eq!(admit(&Access { client_id: "d2", ..d1 }), None);
        assert!(
            admit(&Access { client_id: "auto-0123456789abcdef0123456789abcdef", ..d1 }).is_some()
        );
        assert!(admit(&Access { will_topic: Some("acuvim/d1/status"), ..d1 }).is_some());
        for other in [
            "acuvim/d1/status/x",
            "acuvim/d1/telemetry",
            "acuvim/d2/status",
            "acuvim/d11/status",
            "d1/status",
            "acuvim/d1",
        ] {
            assert_eq!(admit(&Access { will_topic: Some(other), ..d1 }), None, "{other}");
        }
    }

    #[test]
    fn an_anonymous_will_goes_to_the_status_of_an_open_device_alone() {
        let local = Access { from: Ipv4Addr::LOCALHOST.into(), ..access(None, None) };
        let may = |topic| admit(&Access { will_topic: Some(topic), ..local }).is_some();
        assert!(may("acuvim/open/status"));
        for other in [
            "acuvim/open/cmd",
            "acuvim/d1/cmd",
            "acuvim/d1/status",
            "acuvim/off/status",
            "acuvim/open/telemetry",
            "acuvim/open/status/x",
            "devices/register",
            "$SYS/x",
            "other/open/status",
        ] {
            assert!(!may(other), "{other}");
        }
    }

    #[test]
    fn a_device_with_a_secret_is_nobody_elses() {
        let local = Access { from: Ipv4Addr::LOCALHOST.into(), ..access(None, None) };
        assert_eq!(admit(&Access { client_id: "d1", ..local }), None, "its client id");
        assert!(admit(&Access { client_id: "open", ..local }).is_some());
        let all = credentials();
        for (topic, payload, may) in [
            ("acuvim/open/telemetry", "{}", true),
            ("acuvim/d1/telemetry", "{}", false),
            ("acuvim/off/status", "online", false),
            ("devices/register", r#"{"device_id":"open"}"#, true),
            ("devices/register", r#"{"device_id":"d1"}"#, false),
        ] {
            assert_eq!(all.anyone_may_say("acuvim", topic, payload.as_bytes()), may, "{topic}");
        }
        for (filter, may) in [
            ("acuvim/open/cmd", true),
            ("acuvim/d1/cmd", false),
            ("acuvim/off/cmd", false),
            ("acuvim/+/cmd", false),
            ("acuvim/#", false),
            ("#", false),
            ("+/+/cmd", false),
            ("$share/g/acuvim/d1/cmd", false),
            ("acuvim/open/status", false),
        ] {
            assert_eq!(all.anyone_may_hear("acuvim", filter), may, "{filter}");
        }
    }
}
