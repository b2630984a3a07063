//! Bodies, parameters and patches, as clients get them wrong.

use axum::body::Body as Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Meter {
    name: String,
    #[serde(default)]
    volts: Option<f64>,
    #[serde(default)]
    site: Map<String, Value>,
}

async fn body(content_type: Option<&str>, bytes: impl Into<Bytes>) -> Result<Meter, ApiError> {
    let mut request = Request::builder();
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let request = request.body(bytes.into()).expect("a request");
    Body::<Meter>::from_request(request, &()).await.map(|Body(meter)| meter)
}

#[tokio::test]
async fn a_body_is_json_by_its_media_type_whatever_its_case_and_parameters() {
    for good in ["application/json", "Application/JSON; charset=utf-8", " application/json ;x"] {
        assert_eq!(body(Some(good), r#"{"name":"a"}"#).await.expect(good).name, "a");
    }
    for bad in [
        None,
        Some("text/plain"),
        Some("application/json-patch+json"),
        Some("application/jsonl"),
        Some(""),
    ] {
        let error = body(bad, r#"{"name":"a"}"#).await.expect_err("another media type");
        assert_eq!(error.problem.status, 415, "{bad:?}");
    }
}

#[tokio::test]
async fn a_field_at_fault_is_named_by_its_path() {
    let json = Some("application/json");
    for (text, field) in [
        (r#"{"name":"a","volts":"high"}"#, "volts"),
        (r#"{"name":"a","colour":1}"#, "colour"),
        (r"{}", "name"),
    ] {
        let error = body(json, text).await.expect_err(text);
        assert_eq!(error.problem.status, 400);
        assert_eq!(error.problem.errors[0].field, field, "{text}: {}", error.problem.detail);
    }
    for text in ["", "{", "null", "[]", "{\"name\":\"a\"} x"] {
        let error = body(json, text).await.expect_err(text);
        assert_eq!(error.problem.status, 400, "{text}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(body(json, deep).await.expect_err("too deep").problem.status, 400);
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let whole = read(Bytes::from(vec![b'x'; 1000]), 1000).await.expect("as large as may be");
    assert_eq!(whole.len(), 1000);
    let error = read(Bytes::from(vec![b'x'; 2049]), 2048).await.expect_err("a byte more");
    assert_eq!(
        (error.problem.status, error.problem.detail.as_str()),
        (413, "the body is over 2 KiB")
    );
}

#[tokio::test]
async fn only_so_much_of_a_body_without_end_is_read() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = futures::stream::repeat_with(move || {
        counted.fetch_add(1 << 20, Ordering::Relaxed);
        Ok::<_, std::io::Error>(vec![b'x'; 1 << 20])
    });
    let error = read(Bytes::from_stream(endless), 10).await.expect_err("too large");
    assert_eq!(error.problem.status, 413);
    let sent = sent.load(Ordering::Relaxed);
    assert!((MAX_DISCARDED..=MAX_DISCARDED + (2 << 20)).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    let broken =
        futures::stream::iter([Ok("{\"name\":"), Err(std::io::Error::other("connection reset"))]);
    let error = read(Bytes::from_stream(broken), 1000).await.expect_err("broken off");
    assert_eq!(error.problem.status, 400);
    assert!(error.problem.detail.contains("broke off"), "{}", error.problem.detail);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default)]
    on: Option<bool>,
}

async fn query(text: &str) -> Result<Query, ApiError> {
    let request = Request::builder().uri(format!("/x?{text}")).body(()).expect("a request");
    let Params(query) = Params::from_request_parts(&mut request.into_parts().0, &()).await?;
    Ok(query)
}

#[tokio::test]
async fn a_parameter_that_cant_be_taken_is_named() {
    let good = query("limit=7&on=true").await.expect("good");
    assert_eq!((good.limit, good.on), (Some(7), Some(true)));
    for (text, field) in [
        ("limit=few", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("on=yes", "on"),
        ("off=1", "off"),
    ] {
        let error = query(text).await.expect_err(text);
        assert_eq!(error.problem.status, 400, "{text}");
        assert_eq!(error.problem.errors[0].field, field, "{text}: {}", error.problem.detail);
    }
}

fn object(json: &Value) -> Map<String, Value> {
    json.as_object().cloned().expect("an object")
}

#[test]
fn a_resource_may_be_sent_back_with_its_read_only_fields() {
    let sent = json!({"id": 7, "name": "a", "volts": 230.0, "created_at": "yesterday"});
    let meter: Meter = editable(object(&sent), &["id", "created_at"]).expect("good");
    assert_eq!((meter.name.as_str(), meter.volts), ("a", Some(230.0)));
    let error = editable::<Meter>(object(&sent), &["id"]).expect_err("an unknown field");
    assert_eq!(error.problem.errors[0].field, "created_at");
    let error = editable::<Meter>(object(&json!({"name": 1})), &[]).expect_err("no text");
    assert_eq!(error.problem.errors[0].field, "name");
}

#[test]
fn a_patch_changes_what_it_names_and_leaves_the_rest() {
    let meter = Meter {
        name: "a".to_owned(),
        volts: Some(230.0),
        site: object(&json!({"city": "Durban", "roof": {"area": 7, "tiles": true}})),
    };
    let patch = |patch: Value| patched::<Meter>(&meter, object(&patch), &["id"]);
    assert_eq!(patch(json!({})).expect("nothing"), meter);
    let renamed = patch(json!({"name": "b"})).expect("good");
    assert_eq!(renamed, Meter { name: "b".to_owned(), ..meter.clone() });
    assert_eq!(patch(json!({"volts": null})).expect("good").volts, None);
    let merged = patch(json!({"site": {"city": null, "roof": {"area": 8}}})).expect("good");
    assert_eq!(merged.site, object(&json!({"roof": {"area": 8, "tiles": true}})));
    let error = patch(json!({"id": 8})).expect_err("a read-only field");
    assert_eq!(error.problem.errors[0].field, "id");
    let error = patch(json!({"name": null})).expect_err("a field that must be there");
    assert_eq!(error.problem.errors[0].field, "name");
}

#[test]
fn merge_patches_are_those_of_the_rfc() {
    // The examples of RFC 7396, appendix A, whose target and patch are objects.
    for (target, patch, want) in [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
        (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
    ] {
        let mut merged = object(&target);
        merge(&mut merged, object(&patch));
        assert_eq!(Value::Object(merged), want, "{target} with {patch}");
    }
}

#[test]
fn a_message_of_serde_names_its_field_and_a_message_without_one_names_none() {
    let field = |text: &str| from_serde(text).problem.errors.first().map(|e| e.field.clone());
    assert_eq!(
        field("rollout.stages[0].count: invalid type").as_deref(),
        Some("rollout.stages[0].count")
    );
    assert_eq!(field("unknown field `colour`, expected `name`").as_deref(), Some("colour"));
    assert_eq!(field("missing field `name` at line 1").as_deref(), Some("name"));
    assert_eq!(field("invalid type: null, expected struct"), None);
}
