//! Repartitioning the log: refused while records would be left behind, and complete afterwards.

use std::{path::Path, process::Command};

use crate::{
    harness::{Server, T0, binary, reading},
    services::Services,
};

/// Runs the command; returns whether it succeeded, and its output.
fn repartition(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(binary())
        .args(["log", "repartition", "--data-dir"])
        .arg(dir)
        .args(args)
        .output()
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("text"))
}

async fn publish(server: &Server, from: i64, count: i64) {
    for device in ["a", "b", "c", "d", "e"] {
        let connection = server.device(device).await;
        for n in from..from + count {
            let topic = format!("acuvim/{device}/telemetry");
            connection.publish(&topic, reading(T0 + n * 1000), false).await.expect("ack");
        }
        connection.close().await;
    }
}

const COUNT: &str = "SELECT count(*) FROM telemetry";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_gets_other_partitions_and_moves_to_kafka_and_back_without_loss_or_doubles() {
    let root = tempfile::tempdir().expect("dir");
    let dir = root.path();
    let (done, said) = repartition(dir, &["--partitions", "2"]);
    assert!(!done && said.contains("never run"), "{said}");
    let server = Server::start(dir, &[]).await;
    publish(&server, 0, 20).await;
    server.wait_for(COUNT, 100).await;
    let (done, said) = repartition(dir, &["--partitions", "2"]);
    assert!(!done && said.contains("still running: ingest,processor,query"), "{said}");
    server.kill();

    // The lease of a killed process expires after half a minute. A test need not wait that long, so it is
    // dropped here.
    let server = Server::start(dir, &["lake.flush_interval_ms=3600000"]).await;
    publish(&server, 20, 1).await;
    server.wait_for(COUNT, 105).await;
    server.kill();
    forget_processes(dir);
    let (done, said) = repartition(dir, &["--partitions", "2"]);
    assert!(!done && said.contains("records that"), "{said}");

    Server::start(dir, &[]).await.stop().await;
    let (done, said) = repartition(dir, &["--partitions", "2"]);
    assert!(done && said.contains("set log.partitions = 2"), "{said}");
    let starting = Server::spawn(dir, &[], &[]);
    let line = tokio::task::block_in_place(|| starting.ended());
    assert!(line.contains("this system was made with 2"), "{line}");
    let server = Server::start(dir, &["log.partitions=2"]).await;
    publish(&server, 15, 10).await;
    server.wait_for(COUNT, 125).await;
    server.stop().await;

    let services = Services::of_run();
    let kafka = format!("kafka://{}", tokio::task::block_in_place(|| services.kafka(1)));
    let prefix = format!("log.topic_prefix={}", Services::unique_name());
    let to = ["--partitions", "3", "--to", &kafka, "--set", "log.partitions=2", "--set", &prefix];
    let (done, said) = repartition(dir, &to);
    assert!(done && said.contains(&format!("log.url = \"{kafka}\"")), "{said}");
    let on_kafka = ["log.partitions=3".to_owned(), format!("log.url={kafka}"), prefix];
    let on_kafka: Vec<&str> = on_kafka.iter().map(String::as_str).collect();
    let fast = [&on_kafka[..], &["lake.flush_interval_ms=200"]].concat();
    let server = Server::start(dir, &fast).await;
    publish(&server, 20, 10).await;
    // Partitions are assigned a moment after the start, and only their owner flushes.
    let lake = serde_json::json!({"query": COUNT, "consistency": "lake"});
    while server.ask(lake.clone()).await.rows[0][0] != 150 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    server.stop().await;
    let set = [&["--partitions", "4", "--to", "embedded"][..], &["--set", on_kafka[0]]].concat();
    let (done, said) =
        repartition(dir, &[&set[..], &["--set", on_kafka[1], "--set", on_kafka[2]]].concat());
    assert!(done, "{said}");
    let server = Server::start(dir, &[]).await;
    publish(&server, 0, 31).await;
    server.wait_for(COUNT, 155).await;
    let epochs = "SELECT count(DISTINCT epoch) FROM telemetry";
    assert_eq!(server.number(epochs).await, 4, "each layout has identities of its own");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_refused_until_somebody_says_that_the_old_one_is_lost() {
    let root = tempfile::tempdir().expect("dir");
    let dir = root.path();
    let server = Server::start(dir, &[]).await;
    publish(&server, 0, 20).await;
    server.wait_for(COUNT, 100).await;
    server.stop().await;
    std::fs::remove_file(dir.join("log/version")).expect("fjall's file");

    let starting = Server::spawn(dir, &[], &[]);
    let line = tokio::task::block_in_place(|| starting.ended());
    assert!(line.contains("--old-log-is-lost"), "{line}");
    assert!(dir.join("log.aside-1").exists(), "what was there is kept");
    let (done, said) = repartition(dir, &["--partitions", "4"]);
    assert!(!done && said.contains("--old-log-is-lost"), "{said}");

    let (done, said) = repartition(dir, &["--partitions", "4", "--old-log-is-lost"]);
    assert!(done && said.contains("is given up"), "{said}");
    // The offsets of the new log begin at 0, and its readings are not mistaken for old ones.
    let server = Server::start(dir, &[]).await;
    publish(&server, 20, 1).await;
    server.wait_for(COUNT, 105).await;
    server.stop().await;
}

/// Drops the leases of killed processes, which would otherwise expire after half a minute.
fn forget_processes(dir: &Path) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runtime.block_on(async {
            let control = acuvim_control::Control::open_sqlite(&dir.join("control.db")).await;
            let control = control.expect("control");
            let now = chrono::Utc::now();
            for lease in control.held_leases("process:", now).await.expect("ask") {
                let holder = lease.rsplit(':').next().expect("a holder");
                control.drop_lease(&lease, holder, now).await.expect("drop");
            }
            control.close().await;
        });
    });
}
