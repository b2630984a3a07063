//! The intake against a log that fails in every way a log can.

use acuvim_wire::{Micros, time::DAY};
use bytes::Bytes;

use super::*;
use crate::memory_log::{Failure, MemoryLog};

const AWAY: Failure = Failure::Kind(ErrorKind::Unavailable);

fn intake(log: &Arc<MemoryLog>, daily: DailyLimits, patience: Duration) -> Intake {
    let limits = AcceptLimits { topic_prefix: "acuvim".into(), max_payload: 1_000_000 };
    Intake::new(Arc::clone(log) as _, limits, daily, patience)
}

fn message(topic: &str, payload: impl Into<Bytes>) -> Incoming<'_> {
    Incoming { topic, payload: payload.into(), retained: false, received_at: DAY, sender: None }
}

fn reasons(log: &MemoryLog) -> Vec<Reason> {
    log.records().into_iter().filter_map(|r| r.headers.reject).map(|r| r.reason).collect()
}

#[tokio::test]
async fn an_acknowledged_message_is_in_the_log() {
    let log = MemoryLog::new();
    let intake = intake(&log, DailyLimits::default(), Duration::from_secs(1));
    assert_eq!(intake.take(message("acuvim/d1/telemetry", "{}")).await, Taken::Stored);
    assert_eq!(intake.take(message("other/topic", "{}")).await, Taken::Dropped);
    let records = log.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key.as_ref(), b"d1");
    assert_eq!((records[0].headers.kind, records[0].headers.received_at), (Kind::Telemetry, DAY));
}

#[tokio::test]
async fn an_outage_is_waited_out_and_reported_while_it_lasts() {
    let log = MemoryLog::new();
    log.fail([AWAY, AWAY, AWAY]);
    let intake = intake(&log, DailyLimits::default(), Duration::from_secs(60));
    let mut state = intake.state();
    let taken = intake.take(message("acuvim/d1/telemetry", "{}"));
    // The guard that `wait_for` returns must not be held: it would keep the intake from its state.
    let outage = async {
        state.wait_for(|state| matches!(state, IntakeState::Withholding(_))).await.is_ok()
    };
    let (taken, reported) = tokio::join!(taken, outage);
    assert!(reported);
    assert_eq!((taken, log.appends()), (Taken::Stored, 4));
    assert_eq!(*intake.state().borrow(), IntakeState::Taking, "the outage is over");
}

#[tokio::test]
async fn a_log_that_stays_away_or_does_not_answer_withholds_the_message() {
    let log = MemoryLog::new();
    let intake = intake(&log, DailyLimits::default(), Duration::from_millis(100));
    for failure in [AWAY, Failure::Hangs] {
        log.fail(std::iter::repeat_n(failure, 100));
        let taken = intake.take(message("acuvim/d1/telemetry", "{}")).await;
        assert_eq!(taken, Taken::Withheld, "{failure:?}");
        log.clear_failures();
    }
    assert!(log.records().is_empty());
    let taken = intake.take(message("acuvim/d1/telemetry", "{}")).await;
    assert_eq!(taken, Taken::Stored, "the device sends it again");
}

/// A refusal is for good: without a reject in its place the device would send the message for ever.
#[tokio::test]
async fn a_refused_message_is_kept_as_a_reject() {
    let log = MemoryLog::new();
    log.fail([Failure::Kind(ErrorKind::Refused)]);
    let intake = intake(&log, DailyLimits::default(), Duration::from_secs(1));
    assert_eq!(intake.take(message("acuvim/d1/telemetry", "{}")).await, Taken::Stored);
    assert_eq!(reasons(&log), [Reason::RefusedByLog]);
    assert_eq!(log.records()[0].key.as_ref(), b"d1", "it still belongs to its device");
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_survives_an_outage() {
    let log = MemoryLog::new();
    log.fail([AWAY, AWAY]);
    let intake = intake(&log, DailyLimits::default(), Duration::ZERO);
    let messages: Vec<_> =
        ["1", "2", "3"].iter().map(|n| message("acuvim/d1/telemetry", *n)).collect();
    intake.take_all(&messages).await;
    let values: Vec<Bytes> = log.records().into_iter().map(|r| r.value).collect();
    assert_eq!(values, ["1", "2", "3"]);
}

/// The log does not say which record of a batch it refuses.
#[tokio::test]
async fn of_a_refused_batch_only_the_largest_messages_are_given_up() {
    let log = MemoryLog::new();
    log.refuse_over(100_000);
    let intake = intake(&log, DailyLimits::default(), Duration::ZERO);
    let sizes = [5, 120_000, 1, 200_000, 90_000];
    let messages: Vec<_> =
        sizes.iter().map(|size| message("acuvim/d1/telemetry", vec![b'x'; *size])).collect();
    intake.take_all(&messages).await;
    let kept: Vec<bool> = log.records().iter().map(|r| r.headers.reject.is_none()).collect();
    assert_eq!(kept, [true, false, true, false, true], "none is lost, and the order is the same");
    assert_eq!((reasons(&log), log.appends()), (vec![Reason::RefusedByLog; 2], 3));
}

#[tokio::test]
async fn over_the_daily_limit_one_reject_reports_it_and_the_rest_is_dropped() {
    let log = MemoryLog::new();
    let daily = DailyLimits { bytes: 100, alerts: 0 };
    let intake = intake(&log, daily, Duration::from_secs(1));
    let send = || intake.take(message("acuvim/d1/telemetry", vec![b'x'; 40]));
    for want in [Taken::Stored, Taken::Stored, Taken::Stored, Taken::Dropped, Taken::Dropped] {
        assert_eq!(send().await, want);
    }
    assert_eq!(reasons(&log), [Reason::DailyLimit]);
    let other = intake.take(message("acuvim/d2/telemetry", vec![b'x'; 40])).await;
    assert_eq!(other, Taken::Stored, "another device");
    let tomorrow: Micros = 2 * DAY;
    let next = Incoming { received_at: tomorrow, ..message("acuvim/d1/telemetry", "x") };
    assert_eq!(intake.take(next).await, Taken::Stored);
    assert_eq!(reasons(&log).len(), 1);
}

#[tokio::test]
async fn messages_that_were_withheld_do_not_use_up_the_daily_limit() {
    let log = MemoryLog::new();
    let daily = DailyLimits { bytes: 100, alerts: 0 };
    let intake = intake(&log, daily, Duration::ZERO);
    log.fail(std::iter::repeat_n(AWAY, 10));
    for _ in 0..10 {
        let taken = intake.take(message("acuvim/d1/telemetry", vec![b'x'; 90])).await;
        assert_eq!(taken, Taken::Withheld);
    }
    let taken = intake.take(message("acuvim/d1/telemetry", vec![b'x'; 90])).await;
    assert_eq!((taken, reasons(&log)), (Taken::Stored, vec![]));
}

/// Without a pause the intake would ask the log again and again, and keep its thread from everything else.
#[tokio::test]
async fn a_log_that_refuses_even_the_reject_withholds_the_message() {
    let log = MemoryLog::new();
    log.refuse_over(10);
    let intake = intake(&log, DailyLimits::default(), Duration::from_millis(60));
    let taken = intake.take(message("acuvim/d1/telemetry", vec![b'x'; 100])).await;
    assert_eq!(taken, Taken::Withheld);
    assert!(log.appends() < 10, "{} tries", log.appends());
    assert!(matches!(&*intake.state().borrow(), IntakeState::Withholding(_)));
    // A message that is a reject from the start has no other form either.
    let taken = intake.take(message("acuvim/a b/telemetry", vec![b'x'; 100])).await;
    assert_eq!(taken, Taken::Withheld);
    let taken = intake.take(message("acuvim/d1/telemetry", "small")).await;
    assert_eq!((taken, intake.state().borrow().clone()), (Taken::Stored, IntakeState::Taking));
}

#[tokio::test]
async fn a_batch_of_which_even_the_rejects_are_refused_is_an_outage() {
    let log = MemoryLog::new();
    log.refuse_over(10);
    let intake = intake(&log, DailyLimits::default(), Duration::ZERO);
    let mut state = intake.state();
    let messages =
        [message("acuvim/d1/telemetry", "small"), message("acuvim/d1/telemetry", vec![b'x'; 100])];
    let helped = async {
        // The state is reported, and not only waited out.
        let seen = state.wait_for(|state| matches!(state, IntakeState::Withholding(_))).await;
        drop(seen.expect("it is reported"));
        log.refuse_over(1000);
    };
    let both = async { tokio::join!(intake.take_all(&messages), helped) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("it ends");
    assert_eq!((log.records().len(), reasons(&log)), (2, vec![Reason::RefusedByLog; 2]));
    assert_eq!(*intake.state().borrow(), IntakeState::Taking);
}

/// The bridge acknowledges all of them afterwards, also when there is nothing to store.
#[tokio::test]
async fn a_batch_of_foreign_messages_is_over_at_once_and_stores_nothing() {
    let log = MemoryLog::new();
    let intake = intake(&log, DailyLimits::default(), Duration::ZERO);
    intake.take_all(&[message("other/a", "1"), message("acuvim/d1/cmd", "2")]).await;
    intake.take_all(&[]).await;
    assert!(log.records().is_empty());
}

/// Readings of a device keep their order only in one partition.
#[tokio::test]
async fn a_record_goes_to_the_partition_of_its_device() {
    let log = MemoryLog::new();
    let intake = intake(&log, DailyLimits::default(), Duration::from_secs(1));
    for device in ["a", "b", "c", "d", "e", "f"] {
        for kind in ["telemetry", "status", "heartbeat"] {
            let topic = format!("acuvim/{device}/{kind}");
            assert_eq!(intake.take(message(&topic, "{}")).await, Taken::Stored);
        }
    }
    let limit = acuvim_log::ReadLimit { records: 100, bytes: 1 << 20, wait: Duration::ZERO };
    for partition in 0..2 {
        let held = log.read(LogTopic::Uplink, partition, 0, limit).await.expect("read");
        assert!(!held.entries.is_empty());
        assert!(held.entries.iter().all(|(_, e)| partition_of(&e.key, 2) == partition));
    }
}

#[tokio::test]
async fn a_device_over_its_alerts_still_sends_readings() {
    let log = MemoryLog::new();
    let daily = DailyLimits { bytes: 0, alerts: 1 };
    let intake = intake(&log, daily, Duration::from_secs(1));
    for want in [Taken::Stored, Taken::Stored, Taken::Dropped] {
        assert_eq!(intake.take(message("acuvim/d1/alerts", "{}")).await, want);
    }
    assert_eq!(intake.take(message("acuvim/d1/telemetry", "{}")).await, Taken::Stored);
    let kinds: Vec<Kind> = log.records().iter().map(|r| r.headers.kind).collect();
    assert_eq!(kinds, [Kind::Alerts, Kind::Reject, Kind::Telemetry]);
}

/// The report of the limit is a reject, and counts as what was sent.
#[tokio::test]
async fn a_withheld_report_of_the_limit_is_made_again() {
    let log = MemoryLog::new();
    let daily = DailyLimits { bytes: 0, alerts: 1 };
    let intake = intake(&log, daily, Duration::ZERO);
    assert_eq!(intake.take(message("acuvim/d1/alerts", "{}")).await, Taken::Stored);
    log.fail([AWAY]);
    assert_eq!(intake.take(message("acuvim/d1/alerts", "{}")).await, Taken::Withheld);
    assert_eq!(intake.take(message("acuvim/d1/alerts", "{}")).await, Taken::Stored);
    assert_eq!(reasons(&log), [Reason::DailyLimit]);
}
