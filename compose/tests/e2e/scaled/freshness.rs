//! A query process beside processors that flush: counts never fall, no reading is visible twice, and
//! acknowledged readings are visible soon.

use std::time::{Duration, Instant};

use super::load::{Load, verify};
use crate::stack::Stack;

const SETTINGS: [&str; 3] =
    ["lake.flush_interval_ms=200", "lake.compaction_interval_ms=300", "lake.compaction_fan_in=3"];

#[tokio::test(flavor = "multi_thread")]
async fn a_count_on_a_query_role_of_its_own_never_falls_and_no_reading_is_there_twice() {
    let stack = Stack::shared().await;
    let ingest = stack.serve("ingest", "ingest", &SETTINGS).await;
    let one = stack.serve("one", "processor", &SETTINGS).await;
    let two = stack.serve("two", "processor", &SETTINGS).await;
    let query = stack.serve("query", "query", &SETTINGS).await;
    let load = Load::start(stack.mqtt, 3, Duration::from_millis(20));
    let (begun, mut last, mut counts) = (Instant::now(), 0, 0);
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(20) {
        let asked = Instant::now();
        let rows = query
            .sql("SELECT count(*), count(DISTINCT ts) FROM telemetry WHERE device_id = 'dev-0'")
            .await
            .rows;
        let (count, distinct) = (rows[0][0].as_i64().expect("n"), rows[0][1].as_i64().expect("n"));
        assert!(count >= last, "{count} after {last}");
        assert_eq!(count, distinct, "a reading is there twice");
        (last, counts) = (count, counts + 1);
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{counts} counts up to {last}; the slowest took {slowest:?}");
    assert!(last > 200, "the load ran");
    let sent = load.stop().await;
    verify(&stack, &query, &sent, |_| false).await;
    for server in [ingest, one, two, query] {
        server.stop().await;
    }
}
