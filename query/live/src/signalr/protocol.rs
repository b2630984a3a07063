//! The records of the hub's JSON protocol. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::event::RECORD_END;

/// Cuts what a client sends into records. A record that is not complete yet waits, up to a size.
#[derive(Debug)]
pub(super) struct Records {
    most: usize,
    begun: Vec<u8>,
}

/// A record is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Records {
    pub const fn new(most: usize) -> Self {
        Self { most, begun: Vec::new() }
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut whole = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == RECORD_END) {
            let (record, rest) = bytes.split_at(end);
            if self.begun.len() + record.len() > self.most {
                return Err(TooLarge);
            }
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(record);
            whole.push(begun);
            bytes = rest.get(1..).unwrap_or_default();
        }
        if self.begun.len() + bytes.len() > self.most {
            return Err(TooLarge);
        }
        self.begun.extend_from_slice(bytes);
        Ok(whole)
    }
}

/// The first record of a client.
#[derive(Debug, Deserialize)]
struct Handshake {
    protocol: String,
    version: i64,
}

/// Checks a client's first record; an error says what is wrong with it.
pub(super) fn handshake(record: &[u8]) -> Result<(), String> {
    let read: Result<Handshake, _> = serde_json::from_slice(record);
    match read {
        Ok(Handshake { protocol, version: 1 }) if protocol == "json" => Ok(()),
        Ok(Handshake { protocol, version }) => {
            Err(format!("the protocol `{protocol}` {version} is not spoken here: use json 1"))
        }
        Err(error) => Err(format!("the first record is to be a handshake: {error}")),
    }
}

/// A message of a client whose handshake is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientMessage {
    /// A call of a method. With an id the client waits for the answer.
    Call { id: Option<String>, method: String, arguments: Vec<Value> },
    /// A call of a method that streams; the hub has none.
    Stream { id: String, method: String },
    /// A sign of life.
    Ping,
    /// The client is about to close the connection.
    Close,
    /// A message that needs no answer.
    Other,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(rename = "invocationId", default)]
    id: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    arguments: Option<Vec<Value>>,
}

/// Parses a record; an error says what is wrong with it.
pub(super) fn parse(record: &[u8]) -> Result<ClientMessage, String> {
    let read: Message =
        serde_json::from_slice(record).map_err(|error| format!("not a message: {error}"))?;
    let method = || read.target.clone().ok_or("an invocation without a target");
    Ok(match read.kind {
        1 => ClientMessage::Call {
            method: method()?,
            id: read.id,
            arguments: read.arguments.unwrap_or_default(),
        },
        4 => ClientMessage::Stream { method: method()?, id: read.id.unwrap_or_default() },
        6 => ClientMessage::Ping,
        7 => ClientMessage::Close,
        // Types of later versions, and answers to calls that the hub never makes.
        _ => ClientMessage::Other,
    })
}

fn record(value: &Value) -> Vec<u8> {
    let mut out = value.to_string().into_bytes();
    out.push(RECORD_END);
    out
}

/// The answer to a handshake.
pub(super) fn handshake_reply(error: Option<&str>) -> Vec<u8> {
    match error {
        None => record(&json!({})),
        Some(error) => record(&json!({ "error": error })),
    }
}

/// The answer to a call.
pub(super) fn completion(id: &str, outcome: Result<Value, String>) -> Vec<u8> {
    record(&match outcome {
        Ok(result) => json!({"type": 3, "invocationId": id, "result": result}),
        Err(error) => json!({"type": 3, "invocationId": id, "error": error}),
    })
}

/// A sign of life.
pub(super) fn ping() -> Vec<u8> {
    record(&json!({"type": 6}))
}

/// The last record of a session.
pub(super) fn close(error: Option<&str>, reconnect: bool) -> Vec<u8> {
    let mut value = json!({"type": 7, "allowReconnect": reconnect});
    if let (Some(error), Some(fields)) = (error, value.as_object_mut()) {
        fields.insert("error".to_owned(), json!(error));
    }
    record(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_are_whole_however_they_arrive(
            texts in proptest::collection::vec("[a-z]{0,20}", 0..8), cuts in proptest::collection::vec(1_usize..9, 1..40),
        ) {
            let sent: Vec<u8> = texts.iter().flat_map(|t| t.bytes().chain([RECORD_END])).collect();
            let (mut records, mut got, mut rest) = (Records::new(100), Vec::new(), &sent[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                got.extend(records.push(now).expect("small"));
                rest = later;
            }
            let got: Vec<String> = got.into_iter().map(|r| String::from_utf8(r).expect("text")).collect();
            prop_assert_eq!(got, texts);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&bytes), handshake(&bytes), Records::new(50).push(&bytes));
        }
    }

    #[test]
    fn a_record_without_an_end_is_kept_up_to_a_size() {
        let mut records = Records::new(10);
        assert_eq!(records.push(b"12345678"), Ok(vec![]));
        assert_eq!(records.push(b"9\x1e"), Ok(vec![b"123456789".to_vec()]));
        assert_eq!(records.push(b"123456"), Ok(vec![]));
        assert_eq!(records.push(b"789012"), Err(TooLarge));
    }

    #[test]
    fn messages_are_read_as_the_specification_writes_them() {
        assert_eq!(handshake(br#"{"protocol":"json","version":1}"#), Ok(()));
        assert!(handshake(br#"{"protocol":"messagepack","version":1}"#).is_err());
        assert!(handshake(br#"{"type":6}"#).is_err());
        let call = parse(br#"{"type":1,"invocationId":"7","target":"Subscribe","arguments":[{}]}"#);
        let id = Some("7".to_owned());
        assert_eq!(
            call,
            Ok(ClientMessage::Call { id, method: "Subscribe".into(), arguments: vec![json!({})] })
        );
        assert_eq!(parse(br#"{"type":6}"#), Ok(ClientMessage::Ping));
        assert_eq!(parse(br#"{"type":9,"sequenceId":1}"#), Ok(ClientMessage::Other));
        for bad in [&b"{"[..], b"[]", b"{}", br#"{"type":1}"#, br#"{"type":"1","target":"x"}"#] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_record_may_be_as_large_as_the_limit_in_one_piece_or_in_several() {
        let mut records = Records::new(4);
        assert_eq!(records.push(b"1234\x1e"), Ok(vec![b"1234".to_vec()]));
        assert_eq!(records.push(b"12345\x1e"), Err(TooLarge));
        let mut records = Records::new(4);
        assert_eq!(records.push(b"12\x1e34"), Ok(vec![b"12".to_vec()]));
        assert_eq!(records.push(b"56\x1e"), Ok(vec![b"3456".to_vec()]));
        assert_eq!(records.push(b"34"), Ok(vec![]));
        assert_eq!(records.push(b"567\x1e"), Err(TooLarge), "together they are too large");
        assert_eq!(Records::new(4).push(b"\x1e\x1e"), Ok(vec![vec![], vec![]]));
    }

    fn value(record: &[u8]) -> Value {
        let (end, text) = record.split_last().expect("a record");
        assert_eq!(*end, RECORD_END);
        assert!(!text.contains(&RECORD_END), "a record ends once");
        serde_json::from_slice(text).expect("JSON")
    }

    #[test]
    fn answers_are_records_whatever_is_in_them() {
        let hostile = "\u{1e}\"}{\u{1e}";
        assert_eq!(value(&handshake_reply(None)), json!({}));
        assert_eq!(value(&handshake_reply(Some(hostile))), json!({"error": hostile}));
        let done = completion(hostile, Ok(json!({"x": hostile})));
        let wanted = json!({"type": 3, "invocationId": hostile, "result": {"x": hostile}});
        assert_eq!(value(&done), wanted);
        let failed = completion("7", Err(hostile.to_owned()));
        assert_eq!(value(&failed), json!({"type": 3, "invocationId": "7", "error": hostile}));
        assert_eq!(value(&ping()), json!({"type": 6}));
        assert_eq!(value(&close(None, false)), json!({"type": 7, "allowReconnect": false}));
        let wanted = json!({"type": 7, "allowReconnect": true, "error": hostile});
        assert_eq!(value(&close(Some(hostile), true)), wanted);
    }

    #[test]
    fn a_handshake_names_the_protocol_that_is_spoken() {
        for (bad, word) in [
            (r#"{"protocol":"json","version":2}"#, "`json` 2"),
            (r#"{"protocol":"messagepack","version":1}"#, "messagepack"),
            (r#"{"protocol":"json"}"#, "version"),
            ("", "handshake"),
        ] {
            let error = handshake(bad.as_bytes()).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
        // Members of a later version are no fault.
        assert_eq!(handshake(br#"{"protocol":"json","version":1,"minorVersion":1}"#), Ok(()));
    }

    #[test]
    fn a_call_may_lack_its_id_and_its_arguments() {
        let call = |record: &str| match parse(record.as_bytes()) {
            Ok(ClientMessage::Call { id, arguments, .. }) => (id, arguments.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(call(r#"{"type":1,"target":"x"}"#), (None, 0));
        assert_eq!(
            call(r#"{"type":1,"target":"x","invocationId":null,"arguments":null}"#),
            (None, 0)
        );
        assert_eq!(call(r#"{"type":1,"target":"x","arguments":[1,2],"headers":{}}"#), (None, 2));
        let stream = parse(br#"{"type":4,"invocationId":"9","target":"x"}"#);
        let wanted = ClientMessage::Stream { id: "9".to_owned(), method: "x".to_owned() };
        assert_eq!(stream, Ok(wanted));
        assert_eq!(parse(br#"{"type":7,"error":"bye"}"#), Ok(ClientMessage::Close));
        parse(br#"{"type":4,"invocationId":"9"}"#).expect_err("a stream of nothing");
        parse(br#"{"type":-1}"#).expect_err("no type");
    }
}
