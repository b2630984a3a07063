//! The samples: one file a message, good ones and bad ones. A file's name begins with its kind; a
//! bad one's goes on with the reason it must get.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::{fs, path::Path, sync::Arc};

use acuvim_tables::telemetry::{Decoder, Source};
use acuvim_wire::{
    Kind, Position, Reason, payload, record::RecordFacts, telemetry::Limits, time::parse_rfc3339,
};
use bytes::Bytes;

const DEVICE: &str = "ACV-AABBCCDDEEFF";

/// Rows and reasons that a message comes to; other kinds than telemetry count as one row.
fn decode(kind: Kind, message: &[u8]) -> (usize, Vec<Reason>) {
    if kind != Kind::Telemetry {
        return match payload::parse(kind, DEVICE, message) {
            Ok(_) => (1, vec![]),
            Err((reason, _)) => (0, vec![reason]),
        };
    }
    let facts = RecordFacts {
        device_id: DEVICE,
        kind: "telemetry",
        topic: "acuvim/ACV-AABBCCDDEEFF/telemetry",
        received_at: parse_rfc3339("2026-05-17T00:00:00Z").expect("a time"),
        epoch: 0,
        position: Position { partition: 0, offset: 0 },
    };
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let mut reasons = Vec::new();
    let payload = Bytes::copy_from_slice(message);
    decoder.push(&Source { facts, payload: &payload, resolved_ts: None }, &mut |letter| {
        reasons.push(letter.reason);
    });
    (decoder.finish().expect("schema").rows.num_rows(), reasons)
}

fn samples(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("samples")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("read"))
        })
        .collect();
    files.sort();
    files
}

fn parts(name: &str) -> (Kind, String) {
    let mut parts = name.split('.');
    let kind = parts.next().and_then(Kind::parse).unwrap_or_else(|| panic!("{name} has no kind"));
    (kind, parts.next().expect("a second part").to_owned())
}

#[test]
fn good_samples_are_taken_whole() {
    let samples = samples("good");
    for (name, message) in &samples {
        let (kind, _) = parts(name);
        let (rows, reasons) = decode(kind, message);
        assert!(rows >= 1 && reasons.is_empty(), "{name}: {rows} rows, {reasons:?}");
    }
    for kind in Kind::ALL.iter().filter(|k| k.of_device().is_some()) {
        assert!(samples.iter().any(|(name, _)| parts(name).0 == *kind), "no good {kind}");
    }
}

#[test]
fn bad_samples_get_the_reason_in_their_name() {
    let samples = samples("bad");
    for (name, message) in &samples {
        let (kind, reason) = parts(name);
        let reason = Reason::parse(&reason).unwrap_or_else(|| panic!("{name} has no reason"));
        assert_eq!(decode(kind, message), (0, vec![reason]), "{name}");
    }
    for kind in Kind::ALL.iter().filter(|k| k.of_device().is_some()) {
        assert!(samples.iter().any(|(name, _)| parts(name).0 == *kind), "no bad {kind}");
    }
}
