use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    Answer, Changes, NewCommand,
    testing::{add_devices, apply, at, by, command, fresh, give, heard, sent, update},
};

#[test]
fn drift_is_what_is_desired_and_not_reported() {
    let values = |text: &str| read(Some(text)).expect("JSON");
    let (desired, reported) = (values(r#"{"a":1,"b":2}"#), values(r#"{"b":2,"c":3}"#));
    assert_eq!(drifting(&desired, &reported), values(r#"{"a":1}"#));
    assert!(drifting(&desired, &desired).is_empty());
    let printed = values(r#"{"a":1.0,"b":2.0}"#);
    assert!(drifting(&desired, &printed).is_empty(), "as C prints them");
    assert!(read(Some("[")).is_err());
}

fn json_values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-3..3_i64).prop_map(Json::from),
        (-3..3_i32).prop_map(|n| Json::from(f64::from(n))),
        (-3..3_i32).prop_map(|n| Json::from(f64::from(n) + 0.5)),
        "[ab1]{0,2}".prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// The value as a device prints it that keeps every number as a float.
fn as_floats(value: &Json) -> Json {
    match value {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(list) => list.iter().map(as_floats).collect(),
        Json::Object(map) => map.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_device_confirms_in_its_own_notation_is_no_drift(value in json_values()) {
        let printed = as_floats(&value);
        prop_assert!(same(&value, &printed) && same(&printed, &value));
        let values = |value: &Json| Values::from([("key".to_owned(), value.clone())]);
        prop_assert!(drifting(&values(&value), &values(&printed)).is_empty());
    }

    #[test]
    fn values_that_differ_are_drift_either_way(a in json_values(), b in json_values()) {
        prop_assert_eq!(same(&a, &b), as_floats(&a) == as_floats(&b));
        prop_assert_eq!(same(&a, &b), same(&b, &a));
    }
}

#[test]
fn a_number_is_not_its_text_and_null_is_not_absent() {
    let values = |text: &str| read(Some(text)).expect("JSON");
    for (desired, reported) in [
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
        (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":2}}"#),
        (r#"{"a":true}"#, r#"{"a":1}"#),
    ] {
        assert_eq!(drifting(&values(desired), &values(reported)).len(), 1, "{desired} {reported}");
    }
    assert!(drifting(&values("{}"), &values(r#"{"a":1}"#)).is_empty());
}

fn set(device: &str, section: Section, values: &Json) -> NewCommand {
    let params = json!({"section": section.as_str(), "values": values});
    NewCommand { section: Some(section), ..command(device, "set_config", params) }
}

async fn answer(control: &Control, device: &str, id: Uuid, status: &str, second: i64) {
    let fields = json!({"request_id": id, "status": status, "error": "no"});
    let response = serde_json::from_value(fields).expect("a response");
    let answer = Answer { device_id: device.into(), at: at(second), response };
    apply(control, Changes { answers: vec![answer], ..Changes::default() }).await;
}

async fn confirm(control: &Control, device: &str, id: Uuid, second: i64) {
    answer(control, device, id, "success", second).await;
}

async fn config(control: &Control, device: &str) -> DeviceConfig {
    control.config(device).await.expect("ask")
}

#[tokio::test]
async fn values_of_a_section_add_up_and_sections_are_apart() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    give(&control, &set("d", Section::Mqtt, &json!({"host": "a", "port": 1})), 1).await;
    give(&control, &set("d", Section::Mqtt, &json!({"port": 2})), 2).await;
    give(&control, &set("d", Section::Wifi, &json!({"ssid": "x"})), 3).await;
    give(&control, &set("e", Section::Mqtt, &json!({"host": "b"})), 4).await;
    let now = config(&control, "d").await;
    assert_eq!(now.desired["mqtt"], json!({"host": "a", "port": 2}));
    assert_eq!((now.version, now.updated_at), (3, Some(at(3))), "versions are counted by device");
    assert_eq!(config(&control, "e").await.version, 1);
    let none = config(&control, "none").await;
    assert!(none.desired.is_empty() && none.version == 0 && none.updated_at.is_none());
}

#[tokio::test]
async fn only_the_confirmed_values_are_reported_even_if_newer_ones_are_desired() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let first = give(&control, &set("d", Section::Mqtt, &json!({"host": "a", "port": 1})), 1).await;
    let second = give(&control, &set("d", Section::Mqtt, &json!({"port": 2})), 2).await;
    confirm(&control, "d", first, 3).await;
    let now = config(&control, "d").await;
    assert_eq!(now.reported["mqtt"], json!({"host": "a", "port": 1}));
    assert_eq!(now.drift["mqtt"], ["port"]);
    answer(&control, "d", second, "error", 4).await;
    assert_eq!(config(&control, "d").await.drift["mqtt"], ["port"], "an error confirms nothing");
    let third = give(&control, &set("d", Section::Mqtt, &json!({"port": 2})), 5).await;
    confirm(&control, "e", third, 6).await;
    assert_eq!(config(&control, "d").await.drift["mqtt"], ["port"], "nor does another device");
    confirm(&control, "d", third, 7).await;
    assert!(config(&control, "d").await.drift.is_empty());
}

#[tokio::test]
async fn a_secret_is_compared_and_sent_but_never_shown() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &set("d", Section::Wifi, &json!({"password": "hunter22"})), 1).await;
    assert_eq!(config(&control, "d").await.drift["wifi"], ["password"]);
    confirm(&control, "d", id, 2).await;
    assert!(config(&control, "d").await.drift.is_empty());
    let other = set("d", Section::Wifi, &json!({"password": "hunter23"}));
    give(&control, &other, 3).await;
    assert_eq!(config(&control, "d").await.drift["wifi"], ["password"], "another secret is drift");
    let changes = control.config_changes("d", None, 9).await.expect("list").0;
    let shown = serde_json::to_string(&(config(&control, "d").await, changes)).expect("JSON");
    assert!(!shown.contains("hunter2"), "{shown}");
    let kept = control.count(
        "SELECT COUNT(*) FROM commands WHERE secret_params IS NOT NULL AND finished_at IS NOT NULL",
        vec![],
    );
    assert_eq!(kept.await.expect("count"), 0, "a finished command forgets its secrets");
}

#[tokio::test]
async fn pages_of_changes_hold_each_once_newest_first() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    for n in 1..6 {
        give(&control, &set("d", Section::Mqtt, &json!({ "port": n })), n).await;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let (page, total) = control.config_changes("d", before, 2).await.expect("list");
        assert_eq!(total, 5);
        let Some(last) = page.last() else { break };
        before = Some(last.version);
        seen.extend(page.into_iter().map(|change| change.version));
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn unconfirmed_values_are_sent_again_after_ten_minutes_or_a_reconnection() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &set("d", Section::Mqtt, &json!({"port": 1})), 0).await;
    sent(&control).await;
    let beats = async |second, back| {
        update(&control, heard("d", second, back)).await;
        let out = sent(&control).await;
        let id = out.first().map(|body| body["request_id"].as_str().map(str::to_owned));
        assert!(out.len() < 2);
        id.flatten().and_then(|id| id.parse::<Uuid>().ok())
    };
    assert_eq!(beats(1, true).await, None, "one is on its way");
    answer(&control, "d", id, "error", 2).await;
    assert_eq!(beats(599, false).await, None);
    let again = beats(600, false).await.expect("after ten minutes");
    answer(&control, "d", again, "error", 601).await;
    let back = beats(602, true).await.expect("at once");
    confirm(&control, "d", back, 603).await;
    assert_eq!(beats(9999, true).await, None);
    let (all, total) = control.config_changes("d", None, 9).await.expect("list");
    assert_eq!((total, all[0].version), (1, 1), "sending again is no change");
    let list = crate::CommandFilter { limit: 9, ..Default::default() };
    let by: Vec<_> = control.commands(&list, None).await.expect("list").0;
    assert_eq!(by.iter().filter(|command| command.created_by == "system").count(), 2);
}

#[tokio::test]
async fn values_that_are_too_large_together_are_sent_one_by_one() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    for key in ["a", "b", "c"] {
        let id =
            give(&control, &set("d", Section::Mqtt, &json!({ key: "x".repeat(400) })), 0).await;
        answer(&control, "d", id, "error", 1).await;
    }
    sent(&control).await;
    update(&control, heard("d", 2, true)).await;
    let out = sent(&control).await;
    let keys = out.iter().map(|body| body["params"]["values"].as_object().map(Map::len));
    assert_eq!(keys.collect::<Vec<_>>(), [Some(1); 3]);
    update(&control, heard("d", 3, true)).await;
    assert!(sent(&control).await.is_empty(), "they are on their way");
}

#[tokio::test]
async fn a_disabled_device_is_sent_no_configuration() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let id = give(&control, &set("d", Section::Mqtt, &json!({"port": 1})), 0).await;
    answer(&control, "d", id, "error", 1).await;
    sent(&control).await;
    let off = acuvim_model::DeviceEdit { enabled: Some(false), ..Default::default() };
    control.edit_device("d", &off, None, &by(2)).await.expect("edit");
    update(&control, heard("d", 999, true)).await;
    assert!(sent(&control).await.is_empty());
}

#[tokio::test]
async fn a_successor_inherits_what_is_desired_and_has_confirmed_nothing() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["old", "new"]).await;
    let id = give(&control, &set("old", Section::Mqtt, &json!({"port": 1})), 0).await;
    confirm(&control, "old", id, 1).await;
    give(&control, &set("old", Section::Wifi, &json!({"ssid": "x"})), 2).await;
    give(&control, &set("new", Section::Wifi, &json!({"ssid": "own"})), 3).await;
    control.replace_device("old", "new", None, &by(4)).await.expect("replace");
    let now = config(&control, "new").await;
    assert_eq!(now.desired["mqtt"], json!({"port": 1}));
    assert_eq!(now.desired["wifi"], json!({"ssid": "own"}), "what it was given itself stays");
    assert!(now.reported.is_empty());
    assert_eq!(now.drift["mqtt"], ["port"]);
}
