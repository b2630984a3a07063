//! While readings come in and are flushed, no query sees a count fall or a reading twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::harness::{Server, T0, reading};

const SETTINGS: &[&str] =
    &["lake.flush_interval_ms=150", "lake.compaction_interval_ms=200", "lake.compaction_fan_in=3"];

#[tokio::test(flavor = "multi_thread")]
async fn a_count_every_50_ms_never_falls_and_no_reading_is_there_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Arc::new(Server::start(dir.path(), SETTINGS).await);
    let acknowledged = Arc::new(AtomicI64::new(0));
    let stop = CancellationToken::new();
    let load = tokio::spawn({
        let (server, acknowledged, stop) =
            (Arc::clone(&server), Arc::clone(&acknowledged), stop.clone());
        async move {
            let device = server.device("d1").await;
            for n in 0_i64.. {
                if stop.is_cancelled() {
                    break;
                }
                // Every tenth reading is a repetition, every seventh one is days old.
                let ts = if n % 7 == 0 { T0 - 1_000_000_000 + n * 1000 } else { T0 + n * 1000 };
                device.publish("acuvim/d1/telemetry", reading(ts), false).await.expect("ack");
                acknowledged.fetch_add(1, Ordering::SeqCst);
                if n % 10 == 0 {
                    device.publish("acuvim/d1/telemetry", reading(ts), false).await.expect("ack");
                }
            }
        }
    });
    let (mut last, mut slowest) = (0, Duration::ZERO);
    let begun = Instant::now();
    let mut seen = 0;
    while begun.elapsed() < Duration::from_secs(20) {
        let before = acknowledged.load(Ordering::SeqCst);
        let asked = Instant::now();
        let rows = server
            .sql("SELECT count(*), count(DISTINCT ts) FROM telemetry WHERE device_id = 'd1'")
            .await
            .rows;
        let (count, distinct) = (rows[0][0].as_i64().expect("n"), rows[0][1].as_i64().expect("n"));
        assert!(count >= last, "{count} after {last}");
        assert_eq!(count, distinct, "a reading is there twice");
        if count < before {
            // It must be visible within a second of its acknowledgement.
            server_has(&server, before).await;
            slowest = slowest.max(asked.elapsed());
        }
        last = count;
        seen += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    load.await.expect("load");
    let all = acknowledged.load(Ordering::SeqCst);
    server.wait_for("SELECT count(*) FROM telemetry", all).await;
    println!("{seen} counts over {all} readings; the slowest to appear took {slowest:?}");
    assert!(all > 200, "the load ran");
    Arc::into_inner(server).expect("the last").stop().await;
}

async fn server_has(server: &Server, want: i64) {
    let begun = Instant::now();
    loop {
        let count = server.number("SELECT count(*) FROM telemetry").await;
        if count >= want {
            return;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            let metrics = server.get("/metrics").await.text().await.expect("metrics");
            panic!("{want} acknowledged and {count} visible: {metrics}");
        }
    }
}
