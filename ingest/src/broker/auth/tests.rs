//! Who may publish and subscribe to what.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::{broker::pending_logins::PendingLogins, testing::credentials};

/// The answers to a connection of these credentials: d1 has a secret, and `off` is disabled.
fn auth() -> ConnectionAuth {
    let (_, watch) = credentials(&[("d1", Some("s")), ("off", None)]);
    let authenticator = Authenticator::new(watch, "acuvim".into());
    let unfinished = Unfinished::new(Arc::new(Semaphore::new(0)), Duration::from_secs(30));
    let address = "192.0.2.1".parse().expect("an address");
    let pending = PendingLogins::new(2).enter(address).expect("a slot");
    ConnectionAuth::new(&authenticator, false, &unfinished, pending)
}

fn user(v5: bool, device: Option<&str>) -> String {
    let identity = device.map_or(Identity::Anonymous, |id| Identity::Device {
        id: id.to_owned(),
        secret: "s".to_owned(),
    });
    Login { v5, identity }.to_user()
}

#[tokio::test]
async fn mqtt_5_refuses_topics_of_others_and_3_1_1_leaves_them_to_the_hook() {
    let auth = auth();
    for (device, topic, v5_may) in [
        (Some("d1"), "acuvim/d1/telemetry", true),
        (Some("d1"), "devices/register", true),
        (Some("d1"), "acuvim/d2/telemetry", false),
        (Some("d1"), "acuvim/d11/telemetry", false),
        (Some("d1"), "acuvim/d1", false),
        (Some("d1"), "$SYS/x", false),
        (None, "acuvim/open/telemetry", true),
        (None, "acuvim/d1/telemetry", false),
        (None, "acuvim/off/status", false),
        (None, "devices/register", true),
    ] {
        let may = |v5| {
            let user = user(v5, device);
            let auth = &auth;
            async move { auth.authorize_publish("c", Some(&user), topic).await }
        };
        assert_eq!((may(true).await, may(false).await), (v5_may, true), "{device:?} {topic}");
    }
    assert!(!auth.authorize_publish("c", None, "acuvim/open/telemetry").await, "no login");
}

#[tokio::test]
async fn a_device_subscribes_to_its_own_commands_and_nothing_else() {
    let auth = auth();
    for (device, filter, may) in [
        (Some("d1"), "acuvim/d1/cmd", true),
        (Some("d1"), "acuvim/d2/cmd", false),
        (Some("d1"), "acuvim/d1/telemetry", false),
        (Some("d1"), "acuvim/d1/#", false),
        (Some("d1"), "acuvim/d1/+", false),
        (Some("d1"), "acuvim/+/cmd", false),
        (Some("d1"), "#", false),
        (Some("d1"), "$share/g/acuvim/d1/cmd", false),
        (None, "acuvim/open/cmd", true),
        (None, "acuvim/d1/cmd", false),
        (None, "acuvim/off/cmd", false),
        (None, "acuvim/+/cmd", false),
    ] {
        for v5 in [true, false] {
            let got = auth.authorize_subscribe("c", Some(&user(v5, device)), filter).await;
            assert_eq!(got, may, "{device:?} {filter}");
        }
    }
    assert!(!auth.authorize_subscribe("c", None, "acuvim/open/cmd").await, "no login");
}

/// A slot is for connections that have shown nothing yet.
#[test]
fn a_login_frees_its_slot_and_the_room_for_larger_packets() {
    let (_, watch) = credentials(&[]);
    let pending = PendingLogins::new(2);
    let address = "192.0.2.1".parse().expect("an address");
    let slot = pending.enter(address).expect("a slot");
    assert!(pending.enter(address).is_none());
    let unfinished = Unfinished::new(Arc::new(Semaphore::new(1 << 20)), Duration::from_secs(30));
    let authenticator = Authenticator::new(watch, "acuvim".into());
    let auth = ConnectionAuth::new(&authenticator, false, &unfinished, slot);
    assert!(pending.enter(address).is_none(), "it has not logged in");
    auth.logged_in();
    assert!(pending.enter(address).is_some());
    assert!(unfinished.received(100_000).is_ok());
}
