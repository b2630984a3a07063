//! The OpenAPI document as it was last agreed on: a change of the API shows in its diff.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use acuvim_model::{CreatedNotification, Notification, NotificationBody, Rule, RuleBody};

#[test]
fn the_document_is_as_agreed() {
    insta::assert_json_snapshot!(acuvim_query::openapi());
}

#[test]
fn every_operation_has_an_id_of_its_own_and_every_reference_leads_somewhere() {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("JSON");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id.clone()), "{method} {path}: {id} is another's too");
        }
    }
    assert!(ids.len() > 100, "{}", ids.len());
    let mut rest = vec![&document];
    while let Some(value) = rest.pop() {
        if let Some(to) = value.get("$ref").and_then(serde_json::Value::as_str) {
            let to = to.strip_prefix('#').expect("within the document");
            assert!(document.pointer(to).is_some(), "{to} is nowhere");
        }
        rest.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        rest.extend(value.as_array().into_iter().flatten());
    }
}

fn schemas() -> serde_json::Value {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("JSON");
    document["components"]["schemas"].clone()
}

/// Whether an object has what its schema asks for, and nothing that it forbids.
fn fits(answer: &serde_json::Value, schema: &serde_json::Value) -> Result<(), String> {
    let fields = answer.as_object().expect("an object");
    let properties = schema["properties"].as_object().ok_or("no properties")?;
    let required = schema["required"].as_array().into_iter().flatten();
    let missing =
        required.filter_map(|name| name.as_str()).find(|name| !fields.contains_key(*name));
    if let Some(name) = missing {
        return Err(format!("{name} is missing"));
    }
    match fields.keys().find(|name| !properties.contains_key(*name)) {
        Some(name) => Err(format!("{name} is not described")),
        None => Ok(()),
    }
}

#[test]
fn answers_with_flattened_bodies_are_as_the_document_says() {
    let schemas = schemas();
    let (id, at) = (uuid::Uuid::nil(), chrono::DateTime::UNIX_EPOCH);
    let body = serde_json::json!({ "name": "n", "alert_type": "t", "when": "true" });
    let body: RuleBody = serde_json::from_value(body).expect("a rule");
    let rule = Rule { id, version: 1, body, open_alerts: 0, created_at: at, updated_at: at };
    let rule = serde_json::to_value(rule).expect("JSON");
    assert_eq!(fits(&rule, &schemas["Rule"]), Ok(()));
    assert_eq!(fits(&rule, &schemas["Page_Rule"]["properties"]["items"]["items"]), Ok(()));
    let body = serde_json::json!({ "name": "n", "kind": "webhook", "secret": "whsec_x" });
    let body: NotificationBody = serde_json::from_value(body).expect("a notification");
    let notification = Notification { id, body, created_by: "admin".into(), created_at: at };
    let shown = serde_json::to_value(&notification).expect("JSON");
    assert_eq!(fits(&shown, &schemas["Notification"]), Ok(()));
    assert_eq!(schemas["Notification"]["properties"]["secret"], serde_json::Value::Null);
    let created = CreatedNotification { notification, secret: Some("whsec_x".into()) };
    let created = serde_json::to_value(created).expect("JSON");
    assert_eq!(fits(&created, &schemas["CreatedNotification"]), Ok(()));
    // What comes in is as closed as it was, and may have a secret.
    for body in ["RuleBody", "NotificationBody"] {
        assert_eq!(schemas[body]["additionalProperties"], false, "{body}");
    }
    assert_eq!(schemas["NotificationBody"]["properties"]["secret"]["writeOnly"], true);
    assert!(!schemas.to_string().contains("\"allOf\""));
}

/// A generated client puts a parameter where the document says.
#[test]
fn what_is_in_the_path_is_named_by_it_and_nothing_else_is() {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("JSON");
    let mut queries = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let operations = methods.as_object().expect("methods");
        let all = operations.values().filter_map(|o| o["parameters"].as_array()).flatten();
        for parameter in all {
            let name = parameter["name"].as_str().expect("a name");
            let named = path.contains(&format!("{{{name}}}"));
            match parameter["in"].as_str() {
                Some("path") => assert!(named, "{path} does not name {name}"),
                Some("query") => queries += 1,
                other => panic!("{path}: {name} is in {other:?}"),
            }
        }
    }
    assert!(queries > 100, "{queries}");
}
