//! The sending side of a connection whose queue is full.

use super::{setup::QUEUE, *};
use crate::testing::bridge_options;

fn unsent(client: &Client) -> Vec<u16> {
    client.unsent.lock().expect("unpoisoned").iter().copied().collect()
}

/// A client whose queue has no room left.
fn full(v311: bool) -> (Client, Wire) {
    let (client, wire) = open(&bridge_options(), v311);
    for id in 1..=u16::try_from(QUEUE).expect("small") {
        client.acknowledge(id);
    }
    assert!(unsent(&client).is_empty(), "there was room for all of them");
    (client, wire)
}

/// The receiving side must go on while there is no room: it is what makes room.
#[test]
fn without_room_acknowledgements_are_kept_in_order_and_nothing_waits() {
    for v311 in [false, true] {
        let (client, _wire) = full(v311);
        client.acknowledge(5000);
        client.acknowledge(0);
        client.acknowledge(5001);
        assert_eq!(unsent(&client), [5000, 5001], "a message of QoS 0 has none");
        assert!(!client.flush_acknowledgements());
        assert!(!client.publish("t", Bytes::new(), 10) && !client.disconnect());
        assert_eq!(unsent(&client), [5000, 5001]);
    }
}

/// MQTT wants PUBACKs in the order of the messages (3.1.1, section 4.6).
#[test]
fn a_later_acknowledgement_does_not_overtake_those_that_wait() {
    let (client, mut wire) = full(false);
    client.acknowledge(5000);
    let Wire::V5 { events, .. } = &mut wire else { panic!("version 5") };
    events.clean();
    client.acknowledge(5001);
    assert_eq!(unsent(&client), [5000, 5001], "although there is room again");
    assert!(client.flush_acknowledgements());
    assert!(unsent(&client).is_empty() && client.flush_acknowledgements());
    assert!(client.publish("t", Bytes::new(), 10));
}

#[test]
fn a_connection_that_is_gone_takes_nothing() {
    for v311 in [false, true] {
        let (client, wire) = open(&bridge_options(), v311);
        drop(wire);
        client.acknowledge(1);
        assert!(!client.flush_acknowledgements() && !client.publish("t", Bytes::new(), 10));
        client.subscribe(&["a/+".to_owned()]);
    }
}
