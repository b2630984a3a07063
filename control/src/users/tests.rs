use super::*;
use crate::testing::{at, audited, by, fresh, scope_of};

async fn add(control: &Control, name: &str, role: Role) -> User {
    control.create_user(name, "hash", role, None, &by(0)).await.expect("create")
}

fn change(role: Role) -> UserChange {
    UserChange { role, scope: None, enabled: None, password_hash: None }
}

#[tokio::test]
async fn a_change_leaves_what_it_does_not_name() {
    let (_dir, control) = fresh().await;
    add(&control, "admin", Role::Admin).await;
    let id = add(&control, "a", Role::Viewer).await.account.id;
    let off = UserChange { enabled: Some(false), ..change(Role::Viewer) };
    assert_eq!(control.change_user(id, &off, &by(1)).await.expect("change"), UserChanged::Done);
    let scoped = UserChange { scope: Some(scope_of(&["d"])), ..change(Role::Operator) };
    assert_eq!(control.change_user(id, &scoped, &by(2)).await.expect("change"), UserChanged::Done);
    let now = control.user(id).await.expect("ask").expect("there");
    assert!(!now.account.enabled, "still disabled");
    assert_eq!((now.password_hash.as_str(), now.account.role), ("hash", Role::Operator));
    assert_eq!((now.account.scope, now.session_version), (Some(scope_of(&["d"])), 2));
    let wide = UserChange { password_hash: Some("new".into()), ..change(Role::Operator) };
    control.change_user(id, &wide, &by(3)).await.expect("change");
    let now = control.user(id).await.expect("ask").expect("there");
    assert_eq!(
        (now.account.scope, now.password_hash.as_str()),
        (None, "new"),
        "a scope is replaced"
    );
    let audit = audited(&control).await;
    assert_eq!(audit[0].detail["new_password"], true);
    assert!(!serde_json::to_string(&audit).expect("JSON").contains("\"new\""), "{audit:?}");
}

#[tokio::test]
async fn an_empty_scope_is_stored_as_no_device_rather_than_every_device() {
    let (_dir, control) = fresh().await;
    let none = Some(scope_of(&[]));
    let made = control.create_user("a", "h", Role::Viewer, none.clone(), &by(0)).await;
    let id = made.expect("create").account.id;
    assert_eq!(control.user(id).await.expect("ask").expect("there").account.scope, none);
}

#[tokio::test]
async fn a_refused_change_keeps_sessions_and_the_audit_as_they_were() {
    let (_dir, control) = fresh().await;
    let id = add(&control, "admin", Role::Admin).await.account.id;
    let session = control.start_session(id, 0, at(100), &by(0)).await.expect("ask").expect("one");
    let before = audited(&control).await.len();
    for refused in [
        change(Role::Viewer),
        UserChange { enabled: Some(false), ..change(Role::Admin) },
        UserChange { scope: Some(scope_of(&["d"])), ..change(Role::Admin) },
    ] {
        let changed = control.change_user(id, &refused, &by(1)).await.expect("ask");
        assert_eq!(changed, UserChanged::LastAdmin, "{refused:?}");
    }
    assert_eq!(control.delete_user(id, &by(1)).await.expect("ask"), UserChanged::LastAdmin);
    let nobody = Uuid::now_v7();
    let changed = control.change_user(nobody, &change(Role::Admin), &by(1)).await.expect("ask");
    assert_eq!(changed, UserChanged::NotFound);
    assert_eq!(control.delete_user(nobody, &by(1)).await.expect("ask"), UserChanged::NotFound);
    assert_eq!(audited(&control).await.len(), before);
    assert!(control.session_user(id, session.family).await.expect("ask").is_some());
}

#[tokio::test]
async fn an_administrator_who_is_disabled_or_has_a_scope_does_not_count_as_one() {
    let (_dir, control) = fresh().await;
    let id = add(&control, "admin", Role::Admin).await.account.id;
    let scope = Some(scope_of(&["d"]));
    control.create_user("scoped", "h", Role::Admin, scope, &by(0)).await.expect("create");
    let off = add(&control, "off", Role::Admin).await.account.id;
    let disabled = UserChange { enabled: Some(false), ..change(Role::Admin) };
    control.change_user(off, &disabled, &by(1)).await.expect("change");
    assert_eq!(control.delete_user(id, &by(2)).await.expect("ask"), UserChanged::LastAdmin);
    let enabled = UserChange { enabled: Some(true), ..change(Role::Admin) };
    control.change_user(off, &enabled, &by(3)).await.expect("change");
    assert_eq!(control.delete_user(id, &by(4)).await.expect("ask"), UserChanged::Done);
}

#[tokio::test]
async fn names_are_the_same_in_any_case_of_any_alphabet() {
    let (_dir, control) = fresh().await;
    let made = add(&control, "ÄNNE", Role::Viewer).await;
    assert_eq!(made.account.username, "änne");
    let found = control.user_by_name("Änne").await.expect("ask").expect("there");
    assert_eq!(found.account.id, made.account.id);
    let taken = control.create_user("äNNE", "h", Role::Viewer, None, &by(1)).await;
    let error = taken.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(audited(&control).await.len(), 1, "one user, one entry");
    for hostile in ["", "' OR 1 = 1 --", "änne\u{301}"] {
        assert_eq!(control.user_by_name(hostile).await.expect("ask"), None, "{hostile}");
    }
}

#[tokio::test]
async fn pages_of_users_hold_each_once() {
    let (_dir, control) = fresh().await;
    for name in ["c", "a", "b-1", "b", "B2"] {
        add(&control, name, Role::Viewer).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, total) = control.users(after.as_deref(), 2).await.expect("list");
        assert_eq!(total, 5);
        let Some(last) = page.last() else { break };
        after = Some(last.username.clone());
        seen.extend(page.into_iter().map(|user| user.username));
    }
    assert_eq!(seen, ["a", "b", "b-1", "b2", "c"]);
}

#[tokio::test]
async fn a_user_that_cant_be_read_is_an_error_rather_than_a_guess() {
    let (_dir, control) = fresh().await;
    let id = add(&control, "a", Role::Viewer).await.account.id;
    for (sql, says) in [
        ("UPDATE users SET role = 'Owner'", "a stored role is `Owner`"),
        ("UPDATE users SET role = 'Viewer', scope = '[1]'", "a stored scope"),
    ] {
        control.execute(sql, vec![]).await.expect("update");
        let error = control.user(id).await.expect_err("unreadable");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(says), "{error}");
        assert!(control.users(None, 9).await.is_err());
    }
}
