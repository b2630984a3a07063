//! Every query of control, on SQLite and on a real PostgreSQL.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "../../../compose/services/services.rs"]
mod services;

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use acuvim_control::{
    Applied, Changes, Control, DeviceFilter, ErrorKind, OffsetMove, Registered, Rotation,
    hash_secret,
};
use acuvim_schemas::api::{NewKey, Role};
use chrono::{DateTime, TimeDelta, Utc};
use services::Services;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

/// One PostgreSQL for all tests, with a database for each; it ends with this process.
static SERVICES: OnceLock<(Services, String)> = OnceLock::new();

async fn postgres_url() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let url = tokio::task::block_in_place(|| {
        let (_, url) = SERVICES.get_or_init(|| {
            let services = Services::new();
            let url = services.postgres();
            (services, url)
        });
        url.clone()
    });
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&pool).await.expect("a database");
    let (server, _) = url.rsplit_once('/').expect("a URL");
    format!("{server}/{name}")
}

async fn fresh() -> (tempfile::TempDir, Control) {
    let dir = tempfile::tempdir().expect("dir");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("open");
    (dir, control)
}

/// The same test on either engine.
async fn on_both(test: impl AsyncFn(Control)) {
    let (_dir, control) = fresh().await;
    test(control).await;
    test(Control::open_postgres(&postgres_url().await).await.expect("open")).await;
}

fn step(partition: u32, expected: Option<i64>, next: i64) -> Changes {
    Changes { moves: vec![OffsetMove { partition, expected, next }], ..Changes::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn opens_again_and_refuses_what_is_no_database() {
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
async fn users_log_in_by_name_in_any_case() {
    on_both(async |control| {
        assert!(control.has_no_users().await.expect("ask"));
        let made = control.create_user("Admin", "hash", Role::Admin, at(0)).await.expect("create");
        assert!(!control.has_no_users().await.expect("ask"));
        assert_eq!(control.user_by_name("aDMIN").await.expect("ask"), Some(made.clone()));
        assert_eq!(control.user(made.id).await.expect("ask"), Some(made.clone()));
        assert_eq!(control.user_by_name("other").await.expect("ask"), None);
        let again = control.create_user("ADMIN", "hash", Role::Viewer, at(0)).await;
        assert_eq!(again.expect_err("taken").kind(), ErrorKind::Conflict);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_its_family() {
    on_both(async |control| {
        let user = control.create_user("a", "h", Role::Viewer, at(0)).await.expect("user");
        let first = control.start_session(user.id, at(100)).await.expect("session");
        let other = control.start_session(user.id, at(100)).await.expect("session");
        let rotated = control.rotate_session(&first, at(1), at(101)).await.expect("rotate");
        let Rotation::Rotated { user_id, token } = rotated else { panic!("{rotated:?}") };
        assert_eq!(user_id, user.id);
        let reused = control.rotate_session(&first, at(2), at(102)).await.expect("rotate");
        assert_eq!(reused, Rotation::Reused);
        let ended = control.rotate_session(&token, at(3), at(103)).await.expect("rotate");
        assert_eq!(ended, Rotation::Unknown, "the whole family");
        let expired = control.rotate_session(&other, at(100), at(200)).await.expect("rotate");
        assert_eq!(expired, Rotation::Unknown);
        let third = control.start_session(user.id, at(300)).await.expect("session");
        control.end_session(&third).await.expect("logout");
        assert_eq!(
            control.rotate_session(&third, at(4), at(5)).await.expect("ask"),
            Rotation::Unknown
        );
        let fourth = control.start_session(user.id, at(300)).await.expect("session");
        control.set_password(user.id, "other").await.expect("password");
        assert_eq!(
            control.rotate_session(&fourth, at(4), at(5)).await.expect("ask"),
            Rotation::Unknown
        );
        let changed = control.user(user.id).await.expect("ask").expect("there");
        assert_eq!((changed.password_hash.as_str(), changed.session_version), ("other", 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_until_they_expire_or_are_deleted() {
    on_both(async |control| {
        let new = NewKey { name: "grafana".into(), role: Role::Viewer, expires_at: Some(at(10)) };
        let made = control.create_key(&new, at(0)).await.expect("create");
        let found = control.key_by_secret(&made.secret, at(9)).await.expect("ask");
        assert_eq!(found, Some(made.key.clone()));
        assert_eq!(control.key_by_secret(&made.secret, at(10)).await.expect("ask"), None);
        assert_eq!(control.key_by_secret("acv_other", at(0)).await.expect("ask"), None);
        let new = NewKey { name: "for ever".into(), role: Role::Admin, expires_at: None };
        let second = control.create_key(&new, at(0)).await.expect("create");
        let (page, total) = control.keys(None, 1).await.expect("list");
        assert_eq!((page, total), (vec![made.key.clone()], 2));
        let (page, _) = control.keys(Some(made.key.id), 1).await.expect("list");
        assert_eq!(page, vec![second.key.clone()]);
        assert!(control.delete_key(second.key.id).await.expect("delete"));
        assert!(!control.delete_key(second.key.id).await.expect("delete"));
        assert_eq!(control.key_by_secret(&second.secret, at(0)).await.expect("ask"), None);
    })
    .await;
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
        late.seen.push(("d1".into(), at(0)));
        assert_eq!(control.apply(0, &late).await.expect("apply"), overtaken);
        assert_eq!(control.apply(0, &step(1, None, 3)).await.expect("apply"), overtaken);
        assert_eq!(control.offset(0, 1).await.expect("ask"), Some(9));
        assert_eq!(control.offset(1, 1).await.expect("another epoch"), None);
        assert_eq!(control.device("d1").await.expect("ask"), None, "nothing of it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_appears_by_itself_and_registers_without_losing_what_a_person_set() {
    on_both(async |control| {
        let registration = serde_json::from_value(serde_json::json!({
            "device_id": "ACV-1", "imei": "35", "capabilities": ["wifi", "sd"], "boot": 17
        }));
        let changes = Changes {
            moves: vec![OffsetMove { partition: 0, expected: None, next: 2 }],
            seen: vec![("ACV-1".into(), at(0)), ("acv-2".into(), at(1)), ("ACV-1".into(), at(9))],
            registered: vec![Registered { registration: registration.expect("valid"), at: at(3) }],
        };
        assert_eq!(control.apply(0, &changes).await.expect("apply"), Applied::Done);
        let device = control.device("ACV-1").await.expect("ask").expect("there");
        assert!(device.registered && device.enabled);
        assert_eq!(device.imei.as_deref(), Some("35"));
        assert_eq!(device.capabilities, ["wifi", "sd"]);
        assert_eq!(
            (device.boot_count, device.created_at, device.updated_at),
            (Some(17), at(0), at(3))
        );
        let mut ids = control.device_ids().await.expect("ask");
        ids.sort();
        assert_eq!(ids, ["ACV-1", "acv-2"]);

        let list = async |q: Option<&str>, after: Option<&str>| {
            let filter =
                DeviceFilter { q: q.map(str::to_owned), after: after.map(str::to_owned), limit: 1 };
            let (page, total) = control.devices(&filter).await.expect("list");
            (page.into_iter().map(|d| d.device_id).collect::<Vec<_>>(), total)
        };
        assert_eq!(list(None, None).await, (vec!["ACV-1".to_owned()], 2));
        assert_eq!(list(None, Some("ACV-1")).await, (vec!["acv-2".to_owned()], 2));
        assert_eq!(list(Some("CV-2"), None).await, (vec!["acv-2".to_owned()], 1));
        assert_eq!(list(Some("%"), None).await, (vec![], 0), "no wildcards from outside");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_secrets_rotate_and_say_that_they_did() {
    on_both(async |control| {
        assert_eq!(control.credentials_version().await.expect("ask"), None);
        let first = control.rotate_device_secret("d1", at(0)).await.expect("make");
        let version = control.credentials_version().await.expect("ask");
        let second = control.rotate_device_secret("d1", at(1)).await.expect("rotate");
        assert_ne!(control.credentials_version().await.expect("ask"), version);
        assert_ne!(first, second);
        let secrets = control.device_secrets().await.expect("ask");
        assert_eq!(secrets.get("d1"), Some(&Some(hash_secret(&second))));
        assert!(!control.device("d1").await.expect("ask").expect("a row").registered);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_open_a_new_database_at_once_both_find_it_whole() {
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
async fn what_is_wrong_with_the_database_is_said_in_one_line() {
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
async fn a_database_that_was_away_is_used_again() {
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
