use super::*;
use serde_json::{Value, json};

/// A misspelt condition would otherwise replay every dead letter.
#[test]
fn a_replay_with_an_unknown_condition_is_refused() {
    let request = |json: Value| serde_json::from_value::<ReplayRequest>(json);
    assert_eq!(request(json!({})).expect("a request"), ReplayRequest::default());
    let full = json!({
        "device_id": "d1", "reason": "bad_ts", "kind": "telemetry", "from": "2026-05-16T17:05:32Z",
        "to": "2026-05-16T18:05:32Z", "identities": ["0:1:2:3"], "dry_run": true, "limit": 5,
        "repair": { "strip_nuls": true, "offset": "+02:00", "shift_seconds": -3600.5 }
    });
    let read = request(full.clone()).expect("a request");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), full);
    for bad in [
        json!({ "device": "d1" }),
        json!({ "reasons": ["bad_ts"] }),
        json!({ "dryrun": true }),
        json!({ "dry_run": "true" }),
        json!({ "from": "2026-05-16T17:05:32" }),
        json!({ "limit": 1.5 }),
        json!({ "identities": "0:1:2:3" }),
        json!({ "repair": { "shift": 5 } }),
        json!({ "repair": { "shift_seconds": "5" } }),
    ] {
        assert!(request(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_repair_does_nothing_that_is_not_asked_for() {
    let repair: RepairRequest = serde_json::from_value(json!({})).expect("a repair");
    let want = json!({ "strip_nuls": false, "offset": null, "shift_seconds": 0.0 });
    assert_eq!(serde_json::to_value(&repair).expect("JSON"), want);
}
