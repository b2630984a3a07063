use proptest::prelude::*;

use super::*;
use crate::{
    device_events::DeviceEventKind,
    testing::{at, fresh, runtime},
};

fn registration(hardware: &str) -> Registration {
    let json = serde_json::json!({ "device_id": "d1", "hardware": hardware });
    serde_json::from_value(json).expect("a registration")
}

#[test]
fn the_newest_of_everything_survives_a_merge() {
    let mut update =
        DeviceUpdate { telemetry: Some(at(50)), heard: true, ..DeviceUpdate::new("d1", at(9)) };
    for n in 0..6 {
        update.registrations.push(registration(&format!("board {n}")));
    }
    update.merge(DeviceUpdate {
        telemetry: Some(at(40)),
        registrations: vec![registration("board 6")],
        ..DeviceUpdate::new("d1", at(12))
    });
    assert_eq!((update.at, update.telemetry), (at(12), Some(at(50))));
    let last = update.registrations.last().and_then(|r| r.hardware.as_deref());
    assert_eq!((update.registrations.len(), last), (MAX_REGISTRATIONS, Some("board 6")));
}

#[test]
fn a_device_that_disconnected_gets_no_commands_until_it_is_heard_again() {
    let gone = DeviceUpdate { gone: true, ..DeviceUpdate::new("d1", at(2)) };
    let heard = DeviceUpdate { heard: true, back: true, ..DeviceUpdate::new("d1", at(1)) };
    let mut update = heard.clone();
    update.merge(gone);
    assert_eq!((update.heard, update.back, update.gone), (false, false, true));
    update.merge(heard);
    assert_eq!((update.heard, update.back, update.gone), (true, true, false));
}

#[test]
fn what_must_be_stored_once_is_apart_from_what_may_be_repeated() {
    let plain = DeviceUpdate { telemetry: Some(at(1)), ..DeviceUpdate::new("d1", at(1)) };
    assert_eq!(plain.once_only(), None);
    assert_eq!(plain.clone().repeatable(), plain);
    let event = NewDeviceEvent {
        kind: DeviceEventKind::Clock,
        reason: "ahead",
        at: at(1),
        detail: serde_json::json!({}),
    };
    let both = DeviceUpdate { happened: vec![event.clone()], ..plain.clone() };
    let once = both.once_only().expect("it has an event");
    assert_eq!((once.happened, once.telemetry, once.of_known), (vec![event], None, true));
    assert_eq!(both.repeatable(), plain);
}

/// Updates whose parts don't write the same columns, so that their order within a batch does not matter.
fn updates() -> impl Strategy<Value = Vec<DeviceUpdate>> {
    let one = (
        0..40_i64,
        prop::option::of(0..40_i64),
        prop::option::of((0..40_i64, prop::option::of(0..5_u8))),
        prop::option::of((any::<Option<bool>>(), prop::option::of(0..40_i64))),
        prop::option::of(0..5_u8),
    );
    let update = |(arrived, telemetry, beat, presence, imei)| {
        let presence: Option<(Option<bool>, Option<i64>)> = presence;
        let heartbeat = |(second, version): (i64, Option<u8>)| {
            let version = version.map(|n| format!("{n}"));
            let fields = serde_json::json!({ "firmware_version": version });
            (at(second), Box::new(serde_json::from_value(fields).expect("a heartbeat")))
        };
        let registration = |n: u8| {
            let fields = serde_json::json!({ "device_id": "d", "imei": format!("{n}") });
            serde_json::from_value(fields).expect("a registration")
        };
        DeviceUpdate {
            telemetry: Option::map(telemetry, at),
            heartbeat: Option::map(beat, heartbeat),
            // A record that has no presence leaves the known one, so only whole ones are merged.
            presence: presence.map(|(connected, heard)| {
                (Some(connected.unwrap_or_default()), Some(at(heard.unwrap_or_default())))
            }),
            registrations: Option::map(imei, registration).into_iter().collect(),
            ..DeviceUpdate::new("d", at(arrived))
        }
    };
    prop::collection::vec(one.prop_map(update), 1..5)
}

#[test]
fn a_merged_update_stores_what_its_parts_store_one_after_the_other() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    let case = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(64), |(updates in updates())| {
        case.set(case.get() + 1);
        let (apart, merged) = (format!("apart{}", case.get()), format!("merged{}", case.get()));
        let named = |update: &DeviceUpdate, id: &str| {
            DeviceUpdate { device_id: id.to_owned(), ..update.clone() }
        };
        let mut all = named(&updates[0], &merged);
        for one in &updates {
            runtime.block_on(crate::testing::update(&control, named(one, &apart)));
        }
        for one in &updates[1..] {
            all.merge(named(one, &merged));
        }
        runtime.block_on(crate::testing::update(&control, all));
        let get = |id: &str| runtime.block_on(crate::testing::get_device(&control, id));
        let (apart, merged) = (get(&apart), get(&merged));
        prop_assert_eq!(merged.last_telemetry, apart.last_telemetry);
        prop_assert_eq!(merged.last_heartbeat, apart.last_heartbeat);
        prop_assert_eq!(merged.connected, apart.connected);
        prop_assert_eq!(merged.heard_at, apart.heard_at);
        prop_assert_eq!(merged.imei, apart.imei);
        prop_assert_eq!(merged.registered, apart.registered);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is merged: the part to be stored once and the part that may be repeated are the whole.
    #[test]
    fn the_two_parts_of_an_update_are_the_whole(updates in updates(), vitals in any::<bool>()) {
        let mut all = updates[0].clone();
        for one in &updates[1..] {
            all.merge(one.clone());
        }
        all.vitals = vitals.then(|| "{}".to_owned());
        let mut joined = all.clone().repeatable();
        prop_assert!(joined.once_only().is_none(), "nothing is stored twice");
        if let Some(once) = all.once_only() {
            prop_assert!(once.telemetry.is_none() && once.heartbeat.is_none());
            joined.merge(once);
        }
        prop_assert_eq!(joined, all);
    }
}

#[test]
fn a_merge_keeps_the_order_of_what_happened() {
    let step = |second| StatusStep {
        from: acuvim_model::DeviceStatus::Offline,
        to: acuvim_model::DeviceStatus::Online,
        at: at(second),
        reason: "heartbeat",
    };
    let one = |second| DeviceUpdate {
        status: vec![step(second)],
        vitals: Some(format!("{second}")),
        of_known: true,
        ..DeviceUpdate::new("d1", at(second))
    };
    let mut update = one(1);
    update.merge(one(2));
    assert_eq!(update.status, [step(1), step(2)]);
    assert_eq!(update.vitals.as_deref(), Some("2"));
    update.merge(DeviceUpdate::new("d1", at(3)));
    assert_eq!(update.vitals.as_deref(), Some("2"), "what the later one lacks stays");
    assert!(!update.of_known, "a message of the device itself makes it known");
}
