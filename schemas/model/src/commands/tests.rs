use super::*;
use serde_json::json;

#[test]
fn a_command_needs_its_name_alone() {
    let request: CommandRequest =
        serde_json::from_value(json!({ "command": "ping" })).expect("a request");
    assert!(request.params.is_empty() && !request.raw);
    assert_eq!(
        (request.deliver, request.timeout_seconds, request.expires_seconds),
        (Deliver::Now, None, None)
    );
    assert_eq!(request.idempotency_key, None);
    for bad in [
        json!({}),
        json!({ "command": "ping", "param": {} }),
        json!({ "command": "ping", "params": [] }),
        json!({ "command": "ping", "params": null }),
        json!({ "command": "ping", "deliver": "later" }),
        json!({ "command": "ping", "timeout_seconds": -1 }),
        json!({ "command": "ping", "timeout_seconds": 1.5 }),
        json!({ "command": "ping", "expires_seconds": 4_294_967_296_u64 }),
        json!({ "command": null }),
    ] {
        assert!(serde_json::from_value::<CommandRequest>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn names_in_tables_are_those_in_json() {
    for status in CommandStatus::ALL {
        assert_eq!(CommandStatus::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_value(status).expect("JSON"), status.as_str());
    }
    for deliver in [Deliver::Now, Deliver::WhenOnline] {
        assert_eq!(Deliver::parse(deliver.as_str()), Some(deliver));
        assert_eq!(serde_json::to_value(deliver).expect("JSON"), deliver.as_str());
    }
    assert_eq!((CommandStatus::parse("Ack"), Deliver::parse("")), (None, None));
}

/// A final status never changes: a wrong one here would end commands that still run, or never end them.
#[test]
fn three_states_are_final() {
    let finals: Vec<_> = CommandStatus::ALL.into_iter().filter(|s| s.is_final()).collect();
    assert_eq!(finals, [CommandStatus::Success, CommandStatus::Error, CommandStatus::Timeout]);
}

#[test]
fn answers_that_changed_nothing_show_only_where_there_are_some() {
    let mut shown = json!({
        "request_id": "00000000-0000-0000-0000-000000000001", "device_id": "d1", "command": "ping",
        "params": {}, "status": "timeout", "deliver": "when_online", "created_by": "admin",
        "created_at": "2026-05-16T17:05:00Z", "expires_at": "2026-06-15T17:05:00Z",
        "sent_at": null, "ack_at": null, "finished_at": "2026-06-15T17:05:00Z", "deadline": null,
        "response": null, "error": "the device was not heard", "group_command": null
    });
    let read: CommandInfo = serde_json::from_value(shown.clone()).expect("a command");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), shown);
    shown["other_answers"] = json!([
        { "device_id": "d1", "at": "2026-06-16T00:00:00Z", "verdict": "late", "answer": { "a": 1 } }
    ]);
    let read: CommandInfo = serde_json::from_value(shown.clone()).expect("a command");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), shown);
}
