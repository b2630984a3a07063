use proptest::prelude::*;

use super::*;
use crate::{
    DeviceUpdate,
    testing::{at, at_micros, beat, by, fresh, runtime, update},
};

#[test]
fn a_cursor_is_read_only_by_the_order_that_made_it() {
    let time = json!("2026-11-19T00:00:00Z");
    assert!(DeviceSort::CreatedAt.parse(&time).is_some());
    assert!(DeviceSort::CreatedAt.parse(&json!("Feeder 2")).is_none());
    assert!(DeviceSort::CreatedAt.parse(&json!("+99999-01-01T00:00:00Z")).is_none());
    assert!(DeviceSort::Name.parse(&json!("Feeder 2")).is_some());
    assert!(DeviceSort::Name.parse(&json!(7)).is_none());
}

/// A fleet with equal, absent and odd values in every column that a list is sorted by.
async fn fleet(control: &Control) -> Vec<String> {
    let names =
        [None, Some("b"), Some("B"), Some("b"), None, Some("Überg."), Some("a'%_"), Some("")];
    for (n, name) in (0..).zip(names) {
        let id = format!("d{n}");
        let new = acuvim_model::NewDevice {
            name: name.map(str::to_owned),
            ..crate::testing::new_device(&id)
        };
        control.create_device(&new, &by(n % 3)).await.expect("create");
        if n % 2 == 0 {
            update(control, beat(&id, 10 + n % 4, json!({"firmware_version": "1.0"}))).await;
        }
        if n > 4 {
            // With a fraction of a second, beside whole ones.
            let telemetry = Some(at_micros(n * 250_000));
            let measured = DeviceUpdate { telemetry, ..DeviceUpdate::new(&id, at(1)) };
            update(control, measured).await;
        }
    }
    (0..8).map(|n| format!("d{n}")).collect()
}

#[test]
fn pages_of_any_size_and_order_hold_each_device_once() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    let all = runtime.block_on(fleet(&control));
    let orders = prop::sample::select(DeviceSort::ALL.to_vec());
    proptest!(ProptestConfig::with_cases(64), |(order in orders, descending in any::<bool>(), limit in 1..10_i64)| {
        let (name, sort) = order;
        let mut filter = DeviceFilter { sort, descending, limit, ..DeviceFilter::default() };
        let mut seen = Vec::new();
        loop {
            let (page, total) = runtime.block_on(control.devices(&filter, None)).expect("list");
            prop_assert_eq!(total, 8, "on every page");
            let Some(last) = page.last() else { break };
            // A cursor goes through JSON on its way to the client and back.
            let cursor = serde_json::to_string(&filter.next(last)).expect("JSON");
            filter.after = Some(serde_json::from_str(&cursor).expect("a cursor"));
            seen.extend(page.into_iter().map(|device| device.device_id));
        }
        let mut whole = DeviceFilter { sort, descending, limit: 99, ..DeviceFilter::default() };
        let (list, _) = runtime.block_on(control.devices(&whole, None)).expect("list");
        let list: Vec<String> = list.into_iter().map(|device| device.device_id).collect();
        prop_assert_eq!(&seen, &list, "by {}", name);
        whole.descending = !descending;
        let (mut back, _) = runtime.block_on(control.devices(&whole, None)).expect("list");
        back.reverse();
        let back: Vec<String> = back.into_iter().map(|device| device.device_id).collect();
        prop_assert_eq!(&back, &list, "the other way round, by {}", name);
        seen.sort();
        prop_assert_eq!(&seen, &all);
    });
}

#[tokio::test]
async fn a_search_takes_its_text_as_it_is() {
    let (_dir, control) = fresh().await;
    fleet(&control).await;
    let found = async |q: &str| {
        let filter = DeviceFilter { q: Some(q.into()), limit: 99, ..DeviceFilter::default() };
        let (page, total) = control.devices(&filter, None).await.expect("list");
        assert_eq!(i64::try_from(page.len()).expect("small"), total, "{q}");
        page.into_iter().map(|device| device.device_id).collect::<Vec<_>>()
    };
    assert_eq!(found("A'%_").await, ["d6"]);
    assert_eq!(found("überG.").await, ["d5"]);
    assert_eq!(found("D3").await, ["d3"]);
    for none in ["%", "d_", "' OR ''='", "\\", "d3 "] {
        assert!(found(none).await.len() <= 1, "{none}");
    }
    assert!(found("' OR ''='").await.is_empty());
    for all in ["", "\0", "d"] {
        assert_eq!(found(all).await.len(), 8, "{all:?}");
    }
    assert_eq!(found("d\u{0}3").await, ["d3"], "NUL is nowhere in what is stored");
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused_and_a_forged_one_opens_nothing() {
    let (_dir, control) = fresh().await;
    fleet(&control).await;
    let ask = async |sort, value: Json, id: &str| {
        let after = Some((value, id.to_owned()));
        let filter = DeviceFilter { sort, after, limit: 9, ..DeviceFilter::default() };
        control.devices(&filter, Some(&crate::testing::scope_of(&["d1"]))).await
    };
    for value in [json!("b"), json!(null), json!(7), json!({}), json!("0000-01-01T00:00:00Z")] {
        let error = ask(DeviceSort::CreatedAt, value.clone(), "d1").await.expect_err("no time");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{value}");
    }
    for (value, id) in [(json!("' OR 1=1 --"), "'"), (json!("\0"), "\0"), (json!(""), "")] {
        let (page, _) = ask(DeviceSort::Name, value, id).await.expect("list");
        assert!(page.iter().all(|device| device.device_id == "d1"));
    }
}

#[tokio::test]
async fn filters_narrow_each_other() {
    let (_dir, control) = fresh().await;
    fleet(&control).await;
    let edit = acuvim_model::DeviceEdit {
        tags: Some(Some(vec!["roof".into(), "north".into()])),
        ..Default::default()
    };
    for id in ["d1", "d2"] {
        control.edit_device(id, &edit, None, &by(5)).await.expect("edit");
    }
    let total = async |filter: DeviceFilter| {
        let filter = DeviceFilter { limit: 1, ..filter };
        control.devices(&filter, None).await.expect("list").1
    };
    let tag = DeviceFilter { tag: Some("roof".into()), ..DeviceFilter::default() };
    assert_eq!(total(tag.clone()).await, 2);
    assert_eq!(total(DeviceFilter { tag: Some("roo".into()), ..tag.clone() }).await, 0);
    let both = DeviceFilter { firmware_version: Some("1.0".into()), ..tag.clone() };
    assert_eq!(total(both).await, 1);
    let none = DeviceFilter { firmware_version: Some(String::new()), ..tag };
    assert_eq!(total(none).await, 1, "without a version");
    let offline = Some(DeviceStatus::Offline);
    assert_eq!(total(DeviceFilter { status: offline, ..DeviceFilter::default() }).await, 8);
    let nobody = Some(Uuid::now_v7());
    assert_eq!(total(DeviceFilter { group_id: nobody, ..DeviceFilter::default() }).await, 0);
}
