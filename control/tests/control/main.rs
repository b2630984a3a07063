//! Every query of control, on a real database.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use acuvim_control::{
    Applied, Changes, Control, DeviceFilter, ErrorKind, OffsetMove, Registered, Rotation,
    hash_secret,
};
use acuvim_schemas::api::{NewKey, Role};
use chrono::{DateTime, TimeDelta, Utc};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a time")
}

async fn fresh() -> (tempfile::TempDir, Control) {
    let dir = tempfile::tempdir().expect("dir");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("open");
    (dir, control)
}

fn step(partition: u32, expected: Option<i64>, next: i64) -> Changes {
    Changes { moves: vec![OffsetMove { partition, expected, next }], ..Changes::default() }
}

#[tokio::test]
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

#[tokio::test]
async fn users_log_in_by_name_in_any_case() {
    let (_dir, control) = fresh().await;
    assert!(control.has_no_users().await.expect("ask"));
    let made = control.create_user("Admin", "hash", Role::Admin, at(0)).await.expect("create");
    assert!(!control.has_no_users().await.expect("ask"));
    assert_eq!(control.user_by_name("aDMIN").await.expect("ask"), Some(made.clone()));
    assert_eq!(control.user(made.id).await.expect("ask"), Some(made.clone()));
    assert_eq!(control.user_by_name("other").await.expect("ask"), None);
    let again = control.create_user("ADMIN", "hash", Role::Viewer, at(0)).await;
    assert_eq!(again.expect_err("taken").kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_its_family() {
    let (_dir, control) = fresh().await;
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
    assert_eq!(control.rotate_session(&third, at(4), at(5)).await.expect("ask"), Rotation::Unknown);
    let fourth = control.start_session(user.id, at(300)).await.expect("session");
    control.set_password(user.id, "other").await.expect("password");
    assert_eq!(
        control.rotate_session(&fourth, at(4), at(5)).await.expect("ask"),
        Rotation::Unknown
    );
    let changed = control.user(user.id).await.expect("ask").expect("there");
    assert_eq!((changed.password_hash.as_str(), changed.session_version), ("other", 1));
}

#[tokio::test]
async fn keys_open_until_they_expire_or_are_deleted() {
    let (_dir, control) = fresh().await;
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
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed_at_the_first_start() {
    let (_dir, control) = fresh().await;
    let facts = control.log_facts(4).await.expect("first");
    assert_eq!((facts.partitions, facts.epoch), (4, 0));
    assert_eq!(control.log_facts(4).await.expect("again"), facts);
    let error = control.log_facts(8).await.expect_err("another");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains("was made with 4"), "{error}");
}

#[tokio::test]
async fn a_lease_has_one_holder_and_each_new_one_a_new_epoch() {
    let (_dir, control) = fresh().await;
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
}

#[tokio::test]
async fn changes_and_offsets_are_stored_together_or_not_at_all() {
    let (_dir, control) = fresh().await;
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
}

#[tokio::test]
async fn a_device_appears_by_itself_and_registers_without_losing_what_a_person_set() {
    let (_dir, control) = fresh().await;
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
    assert_eq!((device.boot_count, device.created_at, device.updated_at), (Some(17), at(0), at(3)));
    assert_eq!(control.device_ids().await.expect("ask"), ["ACV-1", "acv-2"]);

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
}

#[tokio::test]
async fn device_secrets_rotate_and_say_that_they_did() {
    let (_dir, control) = fresh().await;
    assert_eq!(control.credentials_version().await.expect("ask"), None);
    let first = control.rotate_device_secret("d1", at(0)).await.expect("make");
    let version = control.credentials_version().await.expect("ask");
    let second = control.rotate_device_secret("d1", at(1)).await.expect("rotate");
    assert_ne!(control.credentials_version().await.expect("ask"), version);
    assert_ne!(first, second);
    let secrets = control.device_secrets().await.expect("ask");
    assert_eq!(secrets.get("d1"), Some(&Some(hash_secret(&second))));
    assert!(!control.device("d1").await.expect("ask").expect("a row").registered);
}
