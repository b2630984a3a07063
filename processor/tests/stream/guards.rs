//! What each guard against storing rows twice is for: a stream is cut off after a flush and reads
//! the same records again, with the guards on and off.

use acuvim_wire::{Kind, time::SECOND};

use crate::fixture::{Guards, TestStream, quick};

/// How many rows there are of each reading and of a bad message, after the log was read twice.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    /// A reading that was sent once.
    once: i64,
    /// A reading that was sent twice.
    repeated: i64,
    /// A message that is no reading.
    bad: i64,
}

fn run(guards: Guards) -> Stored {
    let mut stream = TestStream::new(quick(), &[]);
    let ts = 1_777_593_600 * SECOND;
    let reading = |second: i64| {
        let ms = ts / 1000 + second * 1000;
        (Kind::Telemetry, "a", format!("{{\"ts\":{ms},\"f\":50}}"), ts)
    };
    stream.guards = guards;
    stream.restart();
    stream.append(&[reading(0), reading(1), (Kind::Telemetry, "a", "nonsense".to_owned(), ts)]);
    stream.settle();
    stream.wait_flushed(3);
    stream.crash();
    stream.append(&[reading(1)]);
    stream.wait_flushed(4);
    let count = |table: &str, second: i64| {
        let at = format!("to_timestamp_micros({})", ts + second * SECOND);
        stream.scalar(&format!("SELECT count(*) FROM {table} WHERE ts = {at}"))
    };
    Stored {
        once: count("telemetry", 0),
        repeated: count("telemetry", 1),
        bad: stream.scalar("SELECT count(*) FROM dead_letters"),
    }
}

#[test]
fn with_both_guards_everything_is_stored_once() {
    let stored = run(Guards { dedup: true, skip_by_offset: true });
    assert_eq!(stored, Stored { once: 1, repeated: 1, bad: 1 });
}

#[test]
fn without_both_guards_records_that_are_read_again_are_stored_again() {
    let stored = run(Guards { dedup: false, skip_by_offset: false });
    assert!(stored.once > 1 && stored.repeated > 2 && stored.bad > 1, "{stored:?}");
}

#[test]
fn with_dedup_alone_readings_hold_and_dead_letters_double() {
    let stored = run(Guards { dedup: true, skip_by_offset: false });
    assert_eq!((stored.once, stored.repeated), (1, 1));
    assert!(stored.bad > 1, "{stored:?}");
}

#[test]
fn with_offset_skips_alone_a_record_is_stored_once_and_a_repetition_again() {
    let stored = run(Guards { dedup: false, skip_by_offset: true });
    assert_eq!(stored, Stored { once: 1, repeated: 2, bad: 1 });
}
