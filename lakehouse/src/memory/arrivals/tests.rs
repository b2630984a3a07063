use acuvim_tables::Table;

use super::*;
use crate::testing::{T0, heartbeats};

fn none() -> RecordBatch {
    RecordBatch::new_empty(Table::Heartbeats.schema())
}

/// The time of the heartbeat that waits for a device, relative to [`T0`].
fn waiting(arrivals: &Arrivals, device: &str) -> Option<i64> {
    let waiting = arrivals.lock();
    let (rows, row) = waiting.heartbeats.get(device)?;
    Some(times(rows, "ts").expect("times")[*row] - T0)
}

#[test]
fn a_heartbeat_that_was_sent_late_does_not_hide_a_newer_one() {
    let arrivals = Arrivals::default();
    let note = |rows: RecordBatch| arrivals.note(Vec::new(), &rows).expect("note");
    note(heartbeats(0, &[("a", T0 + 9, "1"), ("b", T0, "1"), ("a", T0 + 5, "1")]));
    assert_eq!((waiting(&arrivals, "a"), waiting(&arrivals, "b")), (Some(9), Some(0)));
    note(heartbeats(3, &[("a", T0 + 8, "1"), ("b", T0 + 1, "1")]));
    assert_eq!((waiting(&arrivals, "a"), waiting(&arrivals, "b")), (Some(9), Some(1)));
    note(heartbeats(5, &[("a", T0 + 10, "1")]));
    assert_eq!(waiting(&arrivals, "a"), Some(10));
    assert_eq!(waiting(&arrivals, "c"), None);
}

#[tokio::test]
async fn what_was_taken_is_not_taken_again_and_a_device_waits_once() {
    let arrivals = Arrivals::default();
    let ids = |ids: &[&str]| ids.iter().map(|id| Arc::from(*id)).collect::<Vec<Arc<str>>>();
    arrivals.note(ids(&["a", "b"]), &none()).expect("note");
    arrivals.note(ids(&["a"]), &none()).expect("note");
    let taken = arrivals.take().await;
    assert_eq!(taken.readings, HashSet::from(["a".into(), "b".into()]));
    assert!(arrivals.lock().is_empty());
}

#[tokio::test]
async fn whoever_waits_is_woken_by_what_arrives_and_by_nothing_else() {
    let arrivals = Arrivals::default();
    assert!(!arrivals.has_listener(), "nothing is kept for nobody");
    let mut take = Box::pin(arrivals.take());
    assert!(futures::poll!(&mut take).is_pending());
    assert!(arrivals.has_listener());
    arrivals.note(Vec::new(), &none()).expect("note");
    assert!(futures::poll!(&mut take).is_pending(), "an empty batch is no arrival");
    arrivals.note(Vec::new(), &heartbeats(0, &[("a", T0, "1")])).expect("note");
    assert!(take.await.heartbeats.contains_key("a"));
}
