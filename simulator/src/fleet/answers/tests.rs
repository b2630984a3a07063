use acuvim_wire::{
    Kind,
    payload::{Payload, ResponseStatus, parse},
};

use super::*;

fn command(id: &str, name: &str) -> Vec<u8> {
    json!({"request_id": id, "command": name}).to_string().into_bytes()
}

/// The statuses of responses, read as the server reads them.
fn statuses(responses: &[String]) -> Vec<ResponseStatus> {
    let status = |text: &String| match parse(Kind::Resp, "d1", text.as_bytes()) {
        Ok(Payload::Response(response)) => response.status,
        other => panic!("{text}: {other:?}"),
    };
    responses.iter().map(status).collect()
}

#[test]
fn a_slow_command_is_taken_first_and_done_then() {
    let mut answers = Answers::default();
    for name in ["reboot", "ota_update", "wifi_scan", "sd_flush"] {
        let responses = answers.to(&command(name, name));
        assert_eq!(statuses(&responses), [ResponseStatus::Ack, ResponseStatus::Success], "{name}");
        assert!(responses.iter().all(|r| r.contains(&format!("\"request_id\":\"{name}\""))));
    }
    assert_eq!(statuses(&answers.to(&command("1", "ping"))), [ResponseStatus::Success]);
}

/// The server may deliver a command twice; a device executes it once.
#[test]
fn a_repeated_command_is_answered_once() {
    let mut answers = Answers::default();
    assert_eq!(answers.to(&command("1", "ping")).len(), 1);
    assert!(answers.to(&command("1", "ping")).is_empty());
    assert!(answers.to(&command("1", "reboot")).is_empty(), "the id counts");
    assert_eq!(answers.to(&command("2", "ping")).len(), 1);
    for n in 0..3 * REMEMBERED {
        assert_eq!(answers.to(&command(&format!("x{n}"), "ping")).len(), 1);
        assert!(answers.seen.len() <= REMEMBERED);
    }
}

#[test]
fn an_unknown_command_is_an_error_that_names_it() {
    let mut answers = Answers::default();
    let responses = answers.to(&command("1", "make_coffee"));
    assert_eq!(statuses(&responses), [ResponseStatus::Error]);
    assert!(responses[0].contains("unknown command make_coffee"), "{}", responses[0]);
    let nameless = answers.to(br#"{"request_id":"2"}"#);
    assert_eq!(statuses(&nameless), [ResponseStatus::Error]);
}

#[test]
fn what_is_no_command_is_not_answered() {
    let mut answers = Answers::default();
    for payload in ["", "ping", "{", "[]", "null", r#"{"command":"ping"}"#, r#"{"request_id":7}"#] {
        assert!(answers.to(payload.as_bytes()).is_empty(), "{payload}");
    }
    assert!(answers.to(&[0xff, 0xfe]).is_empty());
}

/// Modbus reads 125 registers at most in one request.
#[test]
fn as_many_registers_are_read_as_one_request_can() {
    let read = |params: Value| {
        let data = data("modbus_read", &params).expect("a known command");
        data["values"].as_array().expect("values").len()
    };
    for (params, want) in [
        (json!({"count": 0}), 0),
        (json!({"count": 125}), 125),
        (json!({"count": 126}), 125),
        (json!({"count": u64::MAX}), 125),
        (json!({"count": -1}), 1),
        (json!({}), 1),
        (Value::Null, 1),
    ] {
        assert_eq!(read(params.clone()), want, "{params}");
    }
}
