//! Records of `acuvim.events` as messages for live clients.

use std::time::Duration;

use acuvim_log::Entry;
use acuvim_model::event::Event;

use crate::{
    event::{EventMessage, REGISTERED, message_of},
    state::Live,
};

/// How long a device is looked up before its event goes out without it.
const LOOKUP_TIME: Duration = Duration::from_secs(2);

/// The outbox's number of an event. The outbox may deliver an event again, under the same number.
pub(crate) fn outbox_number(entry: &Entry) -> Option<i64> {
    entry.outbox_seq()
}

/// Whether a record says that a device was registered.
pub(crate) fn is_registration(entry: &Entry) -> bool {
    Event::from_entry(entry).is_ok_and(|event| registers(&event))
}

fn registers(event: &Event) -> bool {
    matches!(event, Event::Device(event) if event.event == REGISTERED)
}

/// The message of a record; none if it is not for live clients.
pub(crate) async fn message(live: &Live, entry: &Entry) -> Option<EventMessage> {
    let event = Event::from_entry(entry);
    let event =
        // A record of a newer version is passed over: it must not hold up those behind it.
        event.inspect_err(|_| metrics::counter!("acuvim_foreign_events_total").increment(1));
    let event = event.ok()?;
    let device = match event.device_id() {
        Some(id) if registers(&event) => {
            let found = tokio::time::timeout(LOOKUP_TIME, live.control().device(id, None)).await;
            found.ok().and_then(Result::ok).flatten()
        }
        _ => None,
    };
    message_of(&event, device.as_ref())
}
