//! Connections whose rights change while they are open.

use acuvim_control::{UserChange, UserChanged};
use acuvim_model::{GroupBody, MembersChange, Role};
use serde_json::json;

use super::*;
use crate::{
    event::EventKind,
    subscribe::Subscribe,
    subscriber::Subscriber,
    testing::{Fixture, by, scope},
    writer::{ConnectionWriter, Wire},
};

async fn user(fixture: &Fixture, name: &str, role: Role, scope: Option<Scope>) -> Subscriber {
    let user = fixture.control.create_user(name, "hash", role, scope, &by()).await;
    login(fixture, &user.expect("a user")).await
}

async fn login(fixture: &Fixture, user: &acuvim_control::User) -> Subscriber {
    let (id, version) = (user.account.id, user.session_version);
    let end = Utc::now() + std::time::Duration::from_secs(3600);
    let session = fixture.control.start_session(id, version, end, &by()).await;
    let family = session.expect("control answers").expect("a session").family;
    let login = Some(Login { family, session_version: version });
    Subscriber { id, scope: user.account.scope.clone(), login, expires_at: None }
}

async fn group(fixture: &Fixture, add: &[&str]) -> Uuid {
    let body: GroupBody = serde_json::from_value(json!({"name": "g"})).expect("a group");
    let id = fixture.control.create_group(&body, &by()).await.expect("a group");
    members(fixture, id, add, &[]).await;
    id
}

async fn members(fixture: &Fixture, group: Uuid, add: &[&str], remove: &[&str]) {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let change = MembersChange { add: ids(add), remove: ids(remove) };
    let missing = fixture.control.change_members(group, &change, None, &by()).await;
    assert_eq!(missing.expect("control answers"), None);
}

/// The devices of which a connection gets alerts, `-` for those of the system.
fn seen(writer: &ConnectionWriter) -> String {
    let out = writer.connection().out();
    let wants = |id| out.wants(EventKind::AlertCreated, id);
    let devices = ["a", "b", "c"].into_iter().filter(|id| wants(Some(*id)));
    devices.chain(wants(None).then_some("-")).collect()
}

/// Why a connection has ended; none if it goes on.
fn ended(writer: &ConnectionWriter) -> Option<Closing> {
    let closed = std::pin::pin!(writer.connection().closed());
    futures::FutureExt::now_or_never(closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_key() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let (one, other) = (fixture.key(None).await, fixture.key(None).await);
    let gone = fixture.writer(one.clone(), Wire::Sse).await;
    let stays = fixture.writer(other, Wire::Sse).await;
    refresh(&fixture.live).await;
    assert_eq!((ended(&gone), ended(&stays)), (None, None));
    assert!(fixture.control.delete_key(one.id, &by()).await.expect("control answers"));
    refresh(&fixture.live).await;
    let closing = ended(&gone).expect("it has ended");
    assert!(!closing.reconnect && closing.reason.contains("log in again"), "{closing:?}");
    assert_eq!((ended(&stays), seen(&stays).as_str()), (None, "abc-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_and_may_come_again() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let key = fixture.key(None).await;
    let expiring = |seconds| Subscriber {
        expires_at: Some(Utc::now() + chrono::TimeDelta::seconds(seconds)),
        ..key.clone()
    };
    let over = fixture.writer(expiring(-1), Wire::Sse).await;
    let valid = fixture.writer(expiring(3600), Wire::Sse).await;
    refresh(&fixture.live).await;
    let closing = ended(&over).expect("it has ended");
    assert!(closing.reconnect && closing.reason.contains("expired"), "{closing:?}");
    assert_eq!((ended(&valid), seen(&valid).as_str()), (None, "abc-"));
    assert_eq!(seen(&over), "", "an expired connection gets nothing back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_when_its_user_changes_and_no_other_does() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let admin = user(&fixture, "admin", Role::Admin, None).await;
    let changed = user(&fixture, "changed", Role::Viewer, Some(scope(&["a", "b"]))).await;
    let admin = fixture.writer(admin, Wire::Sse).await;
    let before = fixture.writer(changed.clone(), Wire::Sse).await;
    refresh(&fixture.live).await;
    assert_eq!((ended(&before), seen(&before).as_str()), (None, "ab"));
    let change = UserChange {
        role: Role::Viewer,
        scope: Some(scope(&["a"])),
        enabled: None,
        password_hash: None,
    };
    let done = fixture.control.change_user(changed.id, &change, &by()).await;
    assert_eq!(done.expect("control answers"), UserChanged::Done);
    refresh(&fixture.live).await;
    assert!(ended(&before).is_some_and(|closing| !closing.reconnect));
    assert_eq!((ended(&admin), seen(&admin).as_str()), (None, "abc-"));
    // The next login has the new scope; a token of the old session version is worth nothing.
    let now = fixture.control.user(changed.id).await.expect("control answers").expect("the user");
    let again = login(&fixture, &now).await;
    let stale = Login { session_version: 0, ..again.login.expect("a login") };
    let stale = Subscriber { login: Some(stale), ..again.clone() };
    let (again, stale) =
        (fixture.writer(again, Wire::Sse).await, fixture.writer(stale, Wire::Sse).await);
    refresh(&fixture.live).await;
    assert_eq!((ended(&again), seen(&again).as_str()), (None, "a"));
    assert!(ended(&stale).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_user_is_let_go_of() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let _admin = user(&fixture, "admin", Role::Admin, None).await;
    let theirs = user(&fixture, "leaver", Role::Viewer, None).await;
    let writer = fixture.writer(theirs.clone(), Wire::Sse).await;
    let enabled = Some(false);
    let change = UserChange { role: Role::Viewer, scope: None, enabled, password_hash: None };
    fixture.control.change_user(theirs.id, &change, &by()).await.expect("control answers");
    refresh_one(&fixture.live, writer.connection()).await;
    assert!(ended(&writer).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_login_closes_its_own_connections() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let first = user(&fixture, "twice", Role::Viewer, None).await;
    let user = fixture.control.user(first.id).await.expect("control answers").expect("the user");
    let second = login(&fixture, &user).await;
    let family = first.login.expect("a login").family;
    let here = fixture.writer(first, Wire::Sse).await;
    let there = fixture.writer(second, Wire::Sse).await;
    let key = fixture.writer(fixture.key(None).await, Wire::Sse).await;
    fixture.live.end_login(family);
    assert!(ended(&here).is_some_and(|closing| closing.reason.contains("log in again")));
    assert_eq!((ended(&there), ended(&key)), (None, None), "on another machine it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_changes_its_group_changes_who_sees_it() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let group = group(&fixture, &["a", "b"]).await;
    let of_group = Scope { device_ids: vec![], group_ids: vec![group] };
    let writer = fixture.writer(fixture.key(Some(of_group)).await, Wire::Sse).await;
    assert_eq!(seen(&writer), "ab");
    members(&fixture, group, &["c"], &["a"]).await;
    refresh(&fixture.live).await;
    assert_eq!(seen(&writer), "bc");
    members(&fixture, group, &[], &["b", "c"]).await;
    refresh(&fixture.live).await;
    assert_eq!((seen(&writer).as_str(), ended(&writer)), ("", None), "it waits for devices");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_to_a_group_follows_the_group() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let group = group(&fixture, &["a", "b"]).await;
    let subscribe = Subscribe { group_ids: vec![group], ..Subscribe::default() };
    let some = fixture.key(Some(scope(&["a", "c"]))).await;
    let some = fixture.writer(some, Wire::Sse).await;
    some.subscribe(&subscribe).await.expect_err("a scope of devices has no groups");
    let all = fixture.writer(fixture.key(None).await, Wire::Sse).await;
    all.subscribe(&subscribe).await.expect("subscribed");
    assert_eq!(seen(&all), "ab");
    members(&fixture, group, &["c"], &[]).await;
    refresh(&fixture.live).await;
    assert_eq!(seen(&all), "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_subscriptions_share_their_devices_and_others_do_not() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let subscriber = fixture.key(Some(scope(&["a", "b", "c"]))).await;
    let one = fixture.writer(subscriber.clone(), Wire::Sse).await;
    let other = fixture.writer(subscriber, Wire::Sse).await;
    let of = |id: &str| Subscribe { device_ids: vec![id.to_owned()], ..Subscribe::default() };
    one.subscribe(&of("a")).await.expect("subscribed");
    one.subscribe(&of("b")).await.expect("subscribed");
    other.subscribe(&of("c")).await.expect("subscribed");
    refresh(&fixture.live).await;
    assert_eq!((seen(&one).as_str(), seen(&other).as_str()), ("ab", "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_keep_their_rights_while_the_database_is_away() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let writer = fixture.writer(fixture.key(Some(scope(&["a"]))).await, Wire::Sse).await;
    fixture.control.close().await;
    refresh(&fixture.live).await;
    assert_eq!((seen(&writer).as_str(), ended(&writer)), ("a", None));
    let again = ConnectionWriter::open(&fixture.live, writer.connection().subscriber(), Wire::Sse);
    again.await.expect_err("a new connection can't be checked");
}
