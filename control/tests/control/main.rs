//! Every query of control, on SQLite and on a real PostgreSQL.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::large_futures, reason = "a test's own future may be as large as it likes")]

#[path = "../../../compose/services/services.rs"]
mod services;

use std::sync::OnceLock;

mod alerts;
mod commands;
mod devices;
mod firmware;
mod notifications;
mod users;

use acuvim_control::{
    Applied, By, Changes, Control, DeviceUpdate, ErrorKind, OffsetMove, StatusStep,
};
use acuvim_model::DeviceStatus;
use chrono::{DateTime, TimeDelta, Utc};
use services::Services;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

/// A new database on the PostgreSQL of this test run.
async fn postgres_url() -> String {
    static SERVICES: OnceLock<Services> = OnceLock::new();
    tokio::task::block_in_place(|| SERVICES.get_or_init(Services::of_run).database())
}

async fn fresh() -> (tempfile::TempDir, Control) {
    let dir = tempfile::tempdir().expect("dir");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("open");
    (dir, control)
}

/// Runs a test on both engines.
async fn on_both(test: impl AsyncFn(Control)) {
    let (_dir, control) = fresh().await;
    test(control).await;
    test(Control::open_postgres(&postgres_url().await).await.expect("open")).await;
}

/// A user, at a moment.
fn by(second: i64) -> By {
    By { name: "test".into(), address: Some("192.0.2.7".into()), ..By::system(at(second)) }
}

/// A change to a status.
fn status_step(to: DeviceStatus, second: i64) -> StatusStep {
    let from = match to {
        DeviceStatus::Offline => DeviceStatus::Online,
        _ => DeviceStatus::Offline,
    };
    StatusStep { from, to, at: at(second), reason: "test" }
}

fn step(partition: u32, expected: Option<i64>, next: i64) -> Changes {
    Changes { moves: vec![OffsetMove { partition, expected, next }], ..Changes::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_opens_again_and_another_file_is_refused() {
    let (dir, control) = fresh().await;
    control.close().await;
    Control::open_sqlite(&dir.path().join("control.db")).await.expect("again");
    let junk = dir.path().join("junk.db");
    std::fs::write(&junk, "x".repeat(5000)).expect("write");
    let error = Control::open_sqlite(&junk).await.expect_err("junk");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains("junk.db (control.url)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_partitions_is_fixed_at_the_first_start() {
    on_both(async |control| {
        let facts = control.log_facts(4).await.expect("first");
        assert_eq!((facts.partitions, facts.epoch), (4, 0));
        assert_eq!(control.log_facts(4).await.expect("again"), facts);
        let error = control.log_facts(8).await.expect_err("another");
        assert_eq!(error.kind(), ErrorKind::Setup);
        assert!(error.to_string().contains("was made with 4"), "{error}");
        control.check_log("embedded").await.expect("first");
        control.check_log("embedded").await.expect("again");
        let error = control.check_log("kafka:abc").await.expect_err("another log");
        assert_eq!(error.kind(), ErrorKind::Setup);
        // A system from an earlier version stores the id of its log now.
        control.check_log("embedded 1f3c").await.expect("the same, with its id");
        let error = control.check_log("embedded 77aa").await.expect_err("another");
        assert!(error.to_string().contains("--old-log-is-lost"), "{error}");
        assert!(control.begin_epoch(facts, 8, "kafka:abc").await.expect("move"));
        assert!(!control.begin_epoch(facts, 9, "embedded").await.expect("too late"));
        control.check_log("kafka:abc").await.expect("moved");
        let moved = control.log_facts(8).await.expect("moved");
        assert_eq!((moved.partitions, moved.epoch), (8, 1));
        assert_eq!(control.stored_log_facts().await.expect("ask"), Some(moved));
        let secret = control.shared_secret("jwt.secret").await.expect("made");
        assert_eq!(control.shared_secret("jwt.secret").await.expect("kept"), secret);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder_and_each_new_one_a_new_epoch() {
    on_both(async |control| {
        let minute = TimeDelta::seconds(60);
        let hold =
            async |who: &str, now| control.hold_lease("job", who, now, minute).await.expect("ask");
        let first = hold("a", at(0)).await.expect("free");
        assert_eq!(hold("b", at(59)).await, None);
        let longer = hold("a", at(30)).await.expect("goes on");
        assert_eq!((longer.epoch, longer.until), (first.epoch, at(90)));
        let taken = hold("b", at(90)).await.expect("ran out");
        assert!(taken.epoch > first.epoch);
        assert_eq!(hold("a", at(91)).await, None);
        let own = hold("b", at(200)).await.expect("ran out, but nobody took it");
        assert!(own.epoch > taken.epoch, "a pause may have hidden another holder");
        assert_eq!(control.held_leases("jo", at(201)).await.expect("ask"), ["job"]);
        assert!(control.held_leases("other", at(201)).await.expect("ask").is_empty());
        control.drop_lease("job", "a", at(202)).await.expect("not its own");
        assert_eq!(hold("c", at(202)).await, None);
        control.drop_lease("job", "b", at(202)).await.expect("drop");
        assert!(hold("c", at(202)).await.is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_offsets_are_stored_together_or_not_at_all() {
    on_both(async |control| {
        assert_eq!(control.offset(0, 1).await.expect("ask"), None);
        assert_eq!(control.apply(0, &step(1, None, 5)).await.expect("apply"), Applied::Done);
        assert_eq!(control.apply(0, &step(1, Some(5), 9)).await.expect("apply"), Applied::Done);
        let overtaken = Applied::Overtaken { partition: 1 };
        let mut late = step(1, Some(5), 7);
        late.devices.push(DeviceUpdate::new("d1", at(0)));
        assert_eq!(control.apply(0, &late).await.expect("apply"), overtaken);
        assert_eq!(control.apply(0, &step(1, None, 3)).await.expect("apply"), overtaken);
        assert_eq!(control.offset(0, 1).await.expect("ask"), Some(9));
        assert_eq!(control.offset(1, 1).await.expect("another epoch"), None);
        assert_eq!(control.device("d1", None).await.expect("ask"), None, "nothing of it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_starts_find_the_whole_schema() {
    let url = postgres_url().await;
    let openers: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Control::open_postgres(&url).await.map(|_| ()) })
        })
        .collect();
    for opener in openers {
        opener.await.expect("task").expect("opened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_database_are_one_line() {
    let url = postgres_url().await;
    Control::open_postgres(&url).await.expect("made").close().await;
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'later', now(), true, '', 0)")
        .execute(&pool)
        .await
        .expect("a newer version's mark");
    for (url, kind, says) in [
        (url.clone(), ErrorKind::Setup, "newer version of acuvim (its schema is at 99)"),
        (url.replace("acuvim:acuvim@", "acuvim:wrong@"), ErrorKind::Setup, "password"),
        (url.clone() + "_not", ErrorKind::Setup, "does not exist"),
        ("postgres://a:b@127.0.0.1:1/c".to_owned(), ErrorKind::Unavailable, ""),
        ("postgres://[".to_owned(), ErrorKind::Setup, "control.url"),
    ] {
        let error = Control::open_postgres(&url).await.expect_err(&url);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_used_again_after_an_outage() {
    let services = Services::new();
    let control = Control::open_postgres(&services.postgres()).await.expect("open");
    control.log_facts(4).await.expect("facts");
    services.kill("postgres");
    let error = control.log_facts(4).await.expect_err("away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    services.again(&["postgres"]);
    control.log_facts(4).await.expect("again");
    services.pause("postgres");
    let error = control.log_facts(4).await.expect_err("does not answer");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    services.resume("postgres");
    let begun = std::time::Instant::now();
    while let Err(error) = control.log_facts(4).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{error}");
    }
}
