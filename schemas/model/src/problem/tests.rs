use super::*;
use serde_json::json;

/// Clients decide by these: a code that changes its status, or its name, breaks them.
#[test]
fn codes_and_statuses_are_as_agreed() {
    let rows: Vec<(&str, u16)> =
        Code::ALL.into_iter().map(Code::row).map(|(name, status, _)| (name, status)).collect();
    let want = [
        ("bad_request", 400),
        ("bad_query", 400),
        ("unauthorized", 401),
        ("forbidden", 403),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("conflict", 409),
        ("too_large", 413),
        ("unsupported_media_type", 415),
        ("range_not_satisfiable", 416),
        ("refused", 422),
        ("command_too_large", 422),
        ("too_many_requests", 429),
        ("internal", 500),
        ("damaged", 500),
        ("unavailable", 503),
        ("out_of_memory", 422),
        ("deadline_exceeded", 504),
    ];
    assert_eq!(rows, want);
}

#[test]
fn a_problem_is_as_rfc_9457_says() {
    let problem = Problem::new(Code::BadQuery, "no such column");
    let json = serde_json::to_value(&problem).expect("JSON");
    let want = json!({
        "type": "urn:acuvim:problem:bad_query", "title": "The query can't run", "status": 400,
        "detail": "no such column", "code": "bad_query"
    });
    assert_eq!(json, want);
    assert_eq!(serde_json::from_value::<Problem>(json).expect("a problem"), problem);
}

#[test]
fn a_wrong_field_is_named_for_people_and_for_programs() {
    let problem = Problem::field("params.ssid", "is missing");
    assert_eq!((problem.status, problem.code.as_str()), (400, "bad_request"));
    assert_eq!(problem.detail, "params.ssid: is missing");
    let json = serde_json::to_value(&problem).expect("JSON");
    assert_eq!(json["errors"], json!([{ "field": "params.ssid", "message": "is missing" }]));
}
