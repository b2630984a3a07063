//! Who may connect, and as which device. The credentials come from control; the composition root keeps
//! them up to date.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use acuvim_wire::{
    DeviceKind, Kind,
    device::is_device_id,
    payload::registering_device,
    topic::{self, Uplink},
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Notify, watch};

/// How long a login that would be refused waits for newer credentials.
const REFRESH: Duration = Duration::from_secs(1);

/// The hashes of the devices' secrets, as control stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Whether clients on this machine may connect without credentials.
    pub anonymous: bool,
    /// By device id; none for a device that is disabled.
    pub secrets: Arc<HashMap<String, Option<String>>>,
}

/// The newest known credentials, and a way to ask for newer ones.
#[derive(Debug, Clone)]
pub struct CredentialsWatch {
    /// The newest known.
    pub values: watch::Receiver<Credentials>,
    /// Notified before a login is refused, because the known credentials may be a moment old.
    pub look: Arc<Notify>,
}

impl CredentialsWatch {
    /// Authenticates a connection; none if it may not connect. A login is refused only after a look for newer
    /// credentials, because a device whose new secret is not known here yet would stay away for minutes. The
    /// wait also slows down guessing.
    pub(crate) async fn admit(&self, access: &Access<'_>, prefix: &str) -> Option<Identity> {
        let mut values = self.values.clone();
        let known = values.borrow_and_update().admit(access, prefix);
        // Newer credentials can only help a client that shows some.
        if known.is_some() || access.username.is_none() {
            return known;
        }
        self.look.notify_one();
        let changed = tokio::time::timeout(REFRESH, values.changed()).await;
        changed.ok()?.ok()?;
        values.borrow().admit(access, prefix)
    }
}

/// Who a connection is authenticated as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A client on this machine without credentials: may publish for any device that has no secret.
    Anonymous,
    /// A device that has presented its secret: may publish for itself only.
    Device {
        /// The device id.
        id: String,
        /// The hash of the presented secret, to notice when it is replaced.
        secret: String,
    },
}

/// What is known of a connection that wants to log in.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The MQTT client id.
    pub client_id: &'a str,
    /// The MQTT user name.
    pub username: Option<&'a str>,
    /// The MQTT password.
    pub password: Option<&'a [u8]>,
    /// The client's address.
    pub from: IpAddr,
    /// Whether a web page opened it. Then the address is that of the browser and says nothing about the
    /// author of the page.
    pub from_a_page: bool,
    /// The topic of its last will.
    pub will_topic: Option<&'a str>,
}

impl Credentials {
    /// Authenticates a connection; none if it may not connect.
    ///
    /// The client id of a device must be its device id, or empty, so that it gets a random one. Otherwise one
    /// device could take over the connection of another.
    #[must_use]
    pub fn admit(&self, access: &Access<'_>, prefix: &str) -> Option<Identity> {
        let identity = match access.username {
            // No user name at all. A wrong one is never taken for an anonymous client, or a device with an
            // old secret would go on unnoticed.
            None if self.is_open_to(access) => Identity::Anonymous,
            None => return None,
            Some(device) => {
                let stored = self.secrets.get(device)?.as_deref()?;
                // Checked together with the secret, so that the answer does not tell which of both was wrong.
                let own_client = access.client_id == device || is_random(access.client_id);
                let shown = hash(access.password?);
                // In constant time, so that the duration does not reveal how many bytes are right.
                let same = bool::from(stored.as_bytes().ct_eq(shown.as_bytes()));
                (own_client && same).then_some(())?;
                Identity::Device { id: device.to_owned(), secret: shown }
            }
        };
        // The broker crate publishes wills without asking our hook, and keeps retained ones for any topic. So
        // a will may only go to the status topic of a device that the client may publish for.
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

    /// Whether only the device itself may publish for it: it has a secret, or is disabled.
    #[must_use]
    pub fn guards(&self, device: &str) -> bool {
        self.secrets.contains_key(device)
    }

    /// Whether the client needs no credentials: a program on this machine that does not pose as a guarded
    /// device.
    fn is_open_to(&self, access: &Access<'_>) -> bool {
        self.anonymous
            && access.password.is_none()
            // A listener on `[::]` sees 127.0.0.1 as ::ffff:127.0.0.1.
            && access.from.to_canonical().is_loopback()
            && !access.from_a_page
            && !self.guards(access.client_id)
    }

    /// Whether an anonymous client may publish a message: not for a guarded device.
    pub(crate) fn anyone_may_publish(&self, prefix: &str, topic: &str, payload: &[u8]) -> bool {
        match topic::parse(prefix, topic) {
            Uplink::Device { device_id, .. } => !self.guards(device_id),
            Uplink::Register => registering_device(payload).is_none_or(|id| !self.guards(&id)),
            // The accept step rejects or drops them.
            Uplink::BadDeviceId { .. } | Uplink::Foreign => true,
        }
    }

    /// Whether an anonymous client may subscribe to a filter: to the commands of one device that is not
    /// guarded. Wildcards would also match devices that get a secret later.
    pub(crate) fn anyone_may_subscribe(&self, prefix: &str, filter: &str) -> bool {
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

/// Whether a topic is one of the device's own.
pub(crate) fn owns(device: &str, topic: &str, prefix: &str) -> bool {
    topic
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.strip_prefix(device))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether the broker generated the client id because the client gave none.
fn is_random(client_id: &str) -> bool {
    client_id.strip_prefix("auto-").is_some_and(|hex| hex.len() == 32)
}

fn hash(secret: &[u8]) -> String {
    hex::encode(Sha256::digest(secret))
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
    fn a_device_needs_its_own_secret() {
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
    fn a_device_can_use_no_other_client_id_or_will_topic() {
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
    fn anonymous_clients_can_not_use_a_guarded_device() {
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
            assert_eq!(all.anyone_may_publish("acuvim", topic, payload.as_bytes()), may, "{topic}");
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
            assert_eq!(all.anyone_may_subscribe("acuvim", filter), may, "{filter}");
        }
    }

    fn watch() -> (watch::Sender<Credentials>, CredentialsWatch) {
        let (sender, values) = watch::channel(credentials());
        (sender, CredentialsWatch { values, look: Arc::default() })
    }

    #[tokio::test]
    async fn a_secret_that_was_just_made_is_looked_for_before_a_login_is_refused() {
        let (sender, watch) = watch();
        let look = Arc::clone(&watch.look);
        let refresh = async {
            look.notified().await;
            sender.send_modify(|all| {
                let secrets = [("d3".to_owned(), Some(hash(b"three")))];
                all.secrets = Arc::new(secrets.into_iter().collect());
            });
        };
        let new = access(Some("d3"), Some(b"three"));
        let (admitted, ()) = tokio::join!(watch.admit(&new, "acuvim"), refresh);
        assert_eq!(admitted, Some(Identity::Device { id: "d3".into(), secret: hash(b"three") }));
    }

    #[tokio::test]
    async fn a_wrong_login_is_refused_when_nothing_newer_comes() {
        let (_sender, watch) = watch();
        let begun = std::time::Instant::now();
        assert_eq!(watch.admit(&access(Some("d1"), Some(b"x")), "acuvim").await, None);
        assert!(begun.elapsed() >= REFRESH, "guessing is slow");
        let begun = std::time::Instant::now();
        assert_eq!(watch.admit(&access(None, None), "acuvim").await, None);
        assert!(begun.elapsed() < REFRESH, "no credentials can make an anonymous client good");
    }

    #[test]
    fn the_topics_of_a_device_are_its_own() {
        assert!(owns("d1", "acuvim/d1/telemetry", "acuvim"));
        assert!(owns("d1", "site/a/d1/status", "site/a"));
        for other in ["acuvim/d11/telemetry", "acuvim/d1", "d1/telemetry", "devices/register"] {
            assert!(!owns("d1", other, "acuvim"), "{other}");
        }
    }

    #[test]
    fn a_topic_that_only_begins_like_a_devices_own_is_not() {
        for (device, topic, prefix) in [
            ("d1", "acuvim/d1x/telemetry", "acuvim"),
            ("d1", "acuvim/x/d1/telemetry", "acuvim"),
            ("d1", "acuvimd1/telemetry", "acuvim"),
            ("d1", "Acuvim/d1/telemetry", "acuvim"),
            ("d1", "site/a/d1/telemetry", "site"),
            ("", "acuvim/d1/telemetry", "acuvim"),
        ] {
            assert!(!owns(device, topic, prefix), "{device} {topic} {prefix}");
        }
    }

    /// A disabled device has no secret, so nothing that it shows can be right, the empty one included.
    #[test]
    fn a_hash_or_an_empty_secret_is_no_secret() {
        let stored = hash(b"one");
        for password in [stored.as_bytes(), b"", b"one\0", b"On", b"one "] {
            assert_eq!(admit(&access(Some("d1"), Some(password))), None);
            assert_eq!(admit(&access(Some("off"), Some(password))), None);
        }
    }

    #[test]
    fn anonymous_clients_come_from_a_loopback_address() {
        for (from, may) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.168.0.1", false),
            ("0.0.0.0", false),
            ("192.168.0.1", false),
            ("fe80::1", false),
            ("::", false),
        ] {
            let from = from.parse().expect("an address");
            let access = Access { from, ..access(None, None) };
            assert_eq!(admit(&access).is_some(), may, "{from}");
        }
    }

    #[test]
    fn random_client_ids_are_the_brokers_own() {
        assert!(is_random("auto-0123456789abcdef0123456789abcdef"));
        for other in ["auto-", "auto-0123", "d1", "xauto-0123456789abcdef0123456789abcdef"] {
            assert!(!is_random(other), "{other}");
        }
    }
}
