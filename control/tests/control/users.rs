//! Users, sessions, keys and the audit log.

use acuvim_control::{AuditFilter, ErrorKind, NewSession, Rotation, UserChange, UserChanged};
use acuvim_model::{NewKey, Role, Scope};
use uuid::Uuid;

use crate::{at, by, on_both};

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_by_name_in_any_case() {
    on_both(async |control| {
        assert!(control.has_no_users().await.expect("ask"));
        let create = async |name, role| control.create_user(name, "hash", role, None, &by(0)).await;
        let made = create("Admin", Role::Admin).await.expect("create");
        assert!(!control.has_no_users().await.expect("ask"));
        assert_eq!(control.user_by_name("aDMIN").await.expect("ask"), Some(made.clone()));
        assert_eq!(control.user(made.account.id).await.expect("ask"), Some(made.clone()));
        assert_eq!(control.user_by_name("other").await.expect("ask"), None);
        let again = create("ADMIN", Role::Viewer).await;
        assert_eq!(again.expect_err("taken").kind(), ErrorKind::Conflict);
        create("bob", Role::Viewer).await.expect("create");
        let (page, total) = control.users(None, 1).await.expect("list");
        assert_eq!((page.len(), total, page[0].username.as_str()), (1, 2, "admin"));
        let (page, _) = control.users(Some("admin"), 9).await.expect("list");
        assert_eq!(page[0].username, "bob");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_a_second_use_ends_its_session() {
    on_both(async |control| {
        let made = control.create_user("a", "h", Role::Viewer, None, &by(0)).await;
        let id = made.expect("user").account.id;
        let start = async |version, until| {
            let begun = control.start_session(id, version, at(until), &by(0)).await;
            begun.expect("ask").expect("a session")
        };
        let stands =
            async |session: Uuid| control.session_user(id, session).await.expect("ask").is_some();
        let (first, other) = (start(0, 100).await, start(0, 100).await);
        let rotated = control.rotate_session(&first.token, at(101), &by(1)).await.expect("rotate");
        let Rotation::Rotated { user_id, family, version, token } = rotated else {
            panic!("{rotated:?}")
        };
        assert_eq!((user_id, family, version), (id, first.family, 0));
        assert!(stands(family).await && stands(other.family).await);
        let reused = control.rotate_session(&first.token, at(102), &by(2)).await.expect("rotate");
        assert_eq!(reused, Rotation::Reused(family));
        assert!(!stands(family).await, "access tokens end with it");
        assert!(stands(other.family).await, "and another login stands");
        let reused = AuditFilter {
            action: Some("user.token_reused".into()),
            limit: 9,
            ..AuditFilter::default()
        };
        let (noted, _) = control.audit(&reused).await.expect("audit");
        assert_eq!(noted.len(), 1);
        assert_eq!((noted[0].actor.as_str(), noted[0].actor_id), ("a", Some(id)));
        assert_eq!(noted[0].address.as_deref(), Some("192.0.2.7"));
        let ended = control.rotate_session(&token, at(103), &by(3)).await.expect("rotate");
        assert_eq!(ended, Rotation::Unknown, "the whole family");
        let expired = control.rotate_session(&other.token, at(200), &by(100)).await;
        assert_eq!(expired.expect("rotate"), Rotation::Unknown);
        let gone = async |session: &NewSession| {
            let rotated = control.rotate_session(&session.token, at(5), &by(4)).await.expect("ask");
            assert_eq!(rotated, Rotation::Unknown);
            assert!(!stands(session.family).await);
        };
        let third = start(0, 300).await;
        let ended = control.end_session(&third.token).await.expect("logout");
        assert_eq!(ended, Some(third.family));
        assert_eq!(control.end_session(&third.token).await.expect("logout"), None);
        gone(&third).await;
        let fourth = start(0, 300).await;
        control.set_password(id, "other", &by(1)).await.expect("password");
        gone(&fourth).await;
        let changed = control.user(id).await.expect("ask").expect("there");
        assert_eq!((changed.password_hash.as_str(), changed.session_version), ("other", 1));
        let old = control.start_session(id, 0, at(300), &by(2)).await.expect("ask");
        assert_eq!(old, None, "the password was another when it was checked");
        let fifth = start(1, 300).await;
        control.create_user("admin", "h", Role::Admin, None, &by(0)).await.expect("user");
        let change = UserChange {
            role: Role::Viewer,
            scope: None,
            enabled: Some(false),
            password_hash: None,
        };
        let changed = control.change_user(id, &change, &by(2)).await.expect("change");
        assert_eq!(changed, UserChanged::Done);
        gone(&fifth).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_cant_be_removed() {
    on_both(async |control| {
        let admin = control.create_user("admin", "h", Role::Admin, None, &by(0)).await;
        let id = admin.expect("user").account.id;
        let scope = Some(Scope { device_ids: vec!["d".into()], group_ids: vec![] });
        let change =
            |role, scope, enabled| UserChange { role, scope, enabled, password_hash: None };
        for change in [
            change(Role::Operator, None, None),
            change(Role::Admin, None, Some(false)),
            change(Role::Admin, scope.clone(), None),
        ] {
            let changed = control.change_user(id, &change, &by(1)).await.expect("ask");
            assert_eq!(changed, UserChanged::LastAdmin, "{change:?}");
        }
        assert_eq!(control.delete_user(id, &by(1)).await.expect("ask"), UserChanged::LastAdmin);
        let before = control.user(id).await.expect("ask").expect("there");
        assert_eq!((before.account.role, before.session_version), (Role::Admin, 0), "unchanged");
        let second = control.create_user("second", "h", Role::Admin, None, &by(2)).await;
        let second = second.expect("user").account.id;
        assert_eq!(control.delete_user(id, &by(3)).await.expect("ask"), UserChanged::Done);
        let none = control.delete_user(id, &by(3)).await.expect("ask");
        assert_eq!(none, UserChanged::NotFound);
        // Two administrators who remove each other at the same moment: one stays.
        let third = control.create_user("third", "h", Role::Admin, scope, &by(4)).await;
        let third = third.expect("user").account.id;
        let all = change(Role::Admin, None, None);
        control.change_user(third, &all, &by(5)).await.expect("change");
        let (one, two) = tokio::join!(
            async { control.delete_user(second, &by(6)).await.expect("ask") },
            async { control.delete_user(third, &by(6)).await.expect("ask") }
        );
        assert!((one == UserChanged::Done) ^ (two == UserChanged::Done), "{one:?} {two:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_work_until_they_expire_or_are_deleted() {
    on_both(async |control| {
        let scope = Some(Scope { device_ids: vec!["d1".into()], group_ids: vec![Uuid::nil()] });
        let new = |name: &str, scope, expires_at| NewKey {
            name: name.into(),
            role: Role::Viewer,
            scope,
            expires_at,
        };
        let one = new("grafana", scope.clone(), Some(at(10)));
        let made = control.create_key(&one, &by(0)).await.expect("create");
        assert_eq!(made.key.scope, scope);
        let found = control.key_by_secret(&made.secret, at(9)).await.expect("ask");
        assert_eq!(found, Some(made.key.clone()));
        assert_eq!(control.key_by_secret(&made.secret, at(10)).await.expect("ask"), None);
        assert_eq!(control.key_by_secret("acv_other", at(0)).await.expect("ask"), None);
        let two = new("for ever", None, None);
        let second = control.create_key(&two, &by(0)).await.expect("create");
        let (page, total) = control.keys(None, 1).await.expect("list");
        assert_eq!((page, total), (vec![made.key.clone()], 2));
        let (page, _) = control.keys(Some(made.key.id), 1).await.expect("list");
        assert_eq!(page, vec![second.key.clone()]);
        assert!(control.delete_key(second.key.id, &by(1)).await.expect("delete"));
        assert!(!control.delete_key(second.key.id, &by(1)).await.expect("delete"));
        assert_eq!(control.key_by_secret(&second.secret, at(0)).await.expect("ask"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_who_did_what_and_from_where() {
    on_both(async |control| {
        let admin = control.create_user("admin", "h", Role::Admin, None, &by(0)).await;
        let id = admin.expect("user").account.id;
        let new = NewKey { name: "k".into(), role: Role::Viewer, scope: None, expires_at: None };
        let key = control.create_key(&new, &by(5)).await.expect("key").key;
        control.delete_key(key.id, &by(9)).await.expect("delete");
        let ask = async |filter: AuditFilter| {
            let filter = AuditFilter { limit: 2, ..filter };
            control.audit(&filter).await.expect("audit")
        };
        let (page, total) = ask(AuditFilter::default()).await;
        let actions: Vec<&str> = page.iter().map(|e| e.action.as_str()).collect();
        assert_eq!((actions, total), (vec!["key.delete", "key.create"], 3), "newest first");
        assert_eq!(page[0].actor, "test");
        assert_eq!(page[0].address.as_deref(), Some("192.0.2.7"));
        let (rest, _) =
            ask(AuditFilter { before: Some(page[1].id), ..AuditFilter::default() }).await;
        assert_eq!(rest[0].object, id.to_string());
        assert!(!rest[0].detail.to_string().contains("\"h\""), "no hash: {}", rest[0].detail);
        let some = AuditFilter { action: Some("key.create".into()), ..AuditFilter::default() };
        assert_eq!(ask(some).await.1, 1);
        let times = AuditFilter { from: Some(at(5)), to: Some(at(9)), ..AuditFilter::default() };
        assert_eq!(ask(times).await.1, 1, "from inclusive, to exclusive");
        let object = AuditFilter { object: Some(key.id.to_string()), ..AuditFilter::default() };
        assert_eq!(ask(object).await.1, 2);
    })
    .await;
}
