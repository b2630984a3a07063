use acuvim_tables::Table;

use super::*;
use crate::{
    memory::tail::Rows,
    testing::{T0, heartbeats, reading, telemetry},
};

fn batch(from: i64) -> TailBatch {
    let telemetry = telemetry(0, from, &[reading("a", T0 + from)]);
    let heartbeats = heartbeats(from + 1, &[("a", T0 + from, "1")]);
    TailBatch { from, next: from + 2, rows: Rows { telemetry, heartbeats, ..Rows::none() } }
}

#[tokio::test]
async fn arrivals_are_kept_from_the_first_reader_on() {
    let live = LiveState::new(1, 0);
    live.push(0, batch(0)).expect("push");
    // The first call finds nothing of what came before it, and waits.
    let mut take = Box::pin(live.arrivals.take());
    assert!(futures::poll!(&mut take).is_pending());
    live.push(0, batch(2)).expect("push");
    let arrived = take.await;
    assert!(arrived.readings.contains("a") && arrived.heartbeats.contains_key("a"));
}

#[tokio::test]
async fn a_late_reading_is_in_the_tail_and_no_arrival() {
    let live = LiveState::new(1, 0);
    assert!(futures::poll!(Box::pin(live.arrivals.take())).is_pending());
    live.push(0, batch(10)).expect("push");
    assert_eq!(live.arrivals.take().await.readings.len(), 1);
    let late = Rows { telemetry: telemetry(0, 12, &[reading("a", T0 + 3)]), ..Rows::none() };
    live.push(0, TailBatch { from: 12, next: 13, rows: late }).expect("push");
    assert!(futures::poll!(Box::pin(live.arrivals.take())).is_pending());
    assert_eq!(live.tail.batches()[0].len(), 2);
    assert_eq!(live.latest.ts("a"), Some(T0 + 10));
}

#[test]
fn a_partition_that_is_forgotten_leaves_the_others_and_the_tail() {
    let live = LiveState::new(1, 0);
    live.push(0, batch(0)).expect("push");
    live.newest.note("a", T0);
    live.newest_heartbeats.note("a", T0);
    live.forget(7);
    assert!(live.latest.has("a"), "it has no such partition");
    live.forget(0);
    assert!(!live.latest.has("a"));
    assert_eq!((live.newest.get("a"), live.newest_heartbeats.get("a")), (None, None));
    assert_eq!(live.tail.rows(0), 2, "rows that were acknowledged stay");
    let rows = live.latest.rows(["a"]).expect("rows");
    assert_eq!((rows.num_rows(), rows.schema()), (0, Table::Telemetry.schema()));
}

#[test]
fn owning_is_a_switch() {
    let live = LiveState::new(4, 0);
    live.own(1, true);
    live.own(1, true);
    live.own(3, true);
    live.own(2, false);
    live.own(1, false);
    assert_eq!(live.owned(), BTreeSet::from([3]));
}
