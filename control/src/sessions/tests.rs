use acuvim_model::Role;

use super::*;
use crate::{
    UserChange, UserChanged,
    testing::{at, at_micros, audited, by, fresh},
};

async fn add_user(control: &Control, name: &str) -> Uuid {
    let made = control.create_user(name, "hash", Role::Operator, None, &by(0)).await;
    made.expect("user").account.id
}

async fn login(control: &Control, user: Uuid, until: i64) -> NewSession {
    let started = control.start_session(user, 0, at(until), &by(0)).await.expect("ask");
    started.expect("a session")
}

async fn rotate(control: &Control, token: &str, until: i64, now: i64) -> Rotation {
    control.rotate_session(token, at(until), &by(now)).await.expect("rotate")
}

fn next(rotation: Rotation) -> String {
    match rotation {
        Rotation::Rotated { token, .. } => token,
        other => panic!("{other:?}"),
    }
}

async fn is_on(control: &Control, user: Uuid, family: Uuid) -> bool {
    control.session_user(user, family).await.expect("ask").is_some()
}

async fn tokens(control: &Control) -> i64 {
    control.count("SELECT COUNT(*) FROM refresh_tokens", vec![]).await.expect("count")
}

#[tokio::test]
async fn a_session_starts_only_for_the_user_whose_password_was_checked() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    for (id, version) in [(user, 1), (user, -1), (Uuid::now_v7(), 0)] {
        let started = control.start_session(id, version, at(100), &by(1)).await.expect("ask");
        assert_eq!(started, None);
    }
    assert!(audited(&control).await.iter().all(|entry| entry.action != "user.login"));
    control.create_user("admin", "h", Role::Admin, None, &by(0)).await.expect("user");
    let off =
        UserChange { role: Role::Operator, scope: None, enabled: Some(false), password_hash: None };
    let changed = control.change_user(user, &off, &by(2)).await.expect("change");
    assert_eq!(changed, UserChanged::Done);
    let started = control.start_session(user, 1, at(100), &by(3)).await.expect("ask");
    assert_eq!(started, None, "a disabled user, at whichever version");
    assert_eq!(tokens(&control).await, 0);
}

#[tokio::test]
async fn tokens_are_stored_only_as_hashes() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    let session = login(&control, user, 100).await;
    let second = next(rotate(&control, &session.token, 100, 1).await);
    let rows: Vec<(String,)> =
        control.fetch_all("SELECT token_hash FROM refresh_tokens", vec![]).await.expect("read");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(hash,)| *hash != session.token && *hash != second));
    let audit = serde_json::to_string(&audited(&control).await).expect("JSON");
    assert!(!audit.contains(&session.token) && !audit.contains(&second), "{audit}");
}

#[tokio::test]
async fn a_token_expires_exactly_when_it_says_and_is_not_used_up_by_that() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    let session = login(&control, user, 100).await;
    assert_eq!(rotate(&control, &session.token, 300, 100).await, Rotation::Unknown);
    // The clock of another process is behind: the token is still unused there.
    let mut late = by(0);
    late.at = at_micros(99_999_999);
    let rotated = control.rotate_session(&session.token, at(300), &late).await.expect("rotate");
    assert!(matches!(rotated, Rotation::Rotated { .. }), "{rotated:?}");
}

#[tokio::test]
async fn a_session_goes_on_as_long_as_its_tokens_are_exchanged_in_turn() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    let session = login(&control, user, 10).await;
    let mut token = session.token.clone();
    for n in 1..20 {
        let rotated = rotate(&control, &token, n + 10, n).await;
        let Rotation::Rotated { user_id, family, version, token: next } = rotated else {
            panic!("{n}: {rotated:?}")
        };
        assert_eq!((user_id, family, version), (user, session.family, 0));
        assert_ne!(next, token);
        token = next;
    }
    assert!(is_on(&control, user, session.family).await);
    assert!(tokens(&control).await <= 11, "expired tokens are removed with each rotation");
    // A copy of a token from long ago: unknown by now, and no harm to the session.
    assert_eq!(rotate(&control, &session.token, 99, 20).await, Rotation::Unknown);
    assert!(is_on(&control, user, session.family).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_uses_at_once_one_wins_and_the_session_ends() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    let session = login(&control, user, 100).await;
    let (one, two) = tokio::join!(
        rotate(&control, &session.token, 100, 1),
        rotate(&control, &session.token, 100, 1)
    );
    let rotated = |r: &Rotation| matches!(r, Rotation::Rotated { .. });
    assert!(rotated(&one) ^ rotated(&two), "{one:?} {two:?}");
    let (one, two) = if rotated(&one) { (one, two) } else { (two, one) };
    assert_eq!(two, Rotation::Reused(session.family));
    assert_eq!(rotate(&control, &next(one), 100, 2).await, Rotation::Unknown, "whoever has it");
    assert_eq!(tokens(&control).await, 0);
}

#[tokio::test]
async fn reuse_ends_one_session_and_names_its_user_and_the_address() {
    let (_dir, control) = fresh().await;
    let (user, other) = (add_user(&control, "ann").await, add_user(&control, "bob").await);
    let (stolen, own) = (login(&control, user, 100).await, login(&control, user, 100).await);
    let theirs = login(&control, other, 100).await;
    let token = next(rotate(&control, &stolen.token, 100, 1).await);
    next(rotate(&control, &token, 100, 2).await);
    // A token from the middle of the chain counts as well as the first one.
    assert_eq!(rotate(&control, &token, 100, 3).await, Rotation::Reused(stolen.family));
    assert!(!is_on(&control, user, stolen.family).await);
    assert!(is_on(&control, user, own.family).await);
    assert!(is_on(&control, other, theirs.family).await);
    let entry = audited(&control).await.into_iter().next().expect("an entry");
    assert_eq!(entry.action, "user.token_reused");
    assert_eq!((entry.actor.as_str(), entry.actor_id), ("ann", Some(user)));
    assert_eq!((entry.object, entry.address.as_deref()), (user.to_string(), Some("192.0.2.7")));
    assert_eq!(entry.detail["session"], stolen.family.to_string());
    assert_eq!(rotate(&control, &token, 100, 4).await, Rotation::Unknown, "audited once");
}

#[tokio::test]
async fn a_session_is_of_its_user_alone() {
    let (_dir, control) = fresh().await;
    let (user, other) = (add_user(&control, "a").await, add_user(&control, "b").await);
    let session = login(&control, user, 100).await;
    assert!(is_on(&control, user, session.family).await);
    assert!(!is_on(&control, other, session.family).await);
    assert!(!is_on(&control, user, Uuid::now_v7()).await);
}

#[tokio::test]
async fn a_logout_with_any_token_of_the_session_ends_it() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    let (session, other) = (login(&control, user, 100).await, login(&control, user, 100).await);
    let token = next(rotate(&control, &session.token, 100, 1).await);
    assert_eq!(control.end_session("").await.expect("ask"), None);
    assert_eq!(control.end_session("acr_unknown").await.expect("ask"), None);
    // The client may have lost the answer to its last exchange.
    let ended = control.end_session(&session.token).await.expect("ask");
    assert_eq!(ended, Some(session.family));
    assert_eq!(rotate(&control, &token, 100, 2).await, Rotation::Unknown);
    assert!(is_on(&control, user, other.family).await);
}

#[tokio::test]
async fn sessions_end_with_their_user() {
    let (_dir, control) = fresh().await;
    control.create_user("admin", "h", Role::Admin, None, &by(0)).await.expect("user");
    let (user, other) = (add_user(&control, "a").await, add_user(&control, "b").await);
    let (session, theirs) = (login(&control, user, 100).await, login(&control, other, 100).await);
    assert_eq!(control.delete_user(user, &by(1)).await.expect("delete"), UserChanged::Done);
    assert!(!is_on(&control, user, session.family).await);
    assert_eq!(rotate(&control, &session.token, 100, 2).await, Rotation::Unknown);
    assert!(is_on(&control, other, theirs.family).await);
}

#[tokio::test]
async fn a_token_keeps_the_version_of_its_login() {
    let (_dir, control) = fresh().await;
    let user = add_user(&control, "a").await;
    control.set_password(user, "new", &by(1)).await.expect("password");
    let started = control.start_session(user, 1, at(100), &by(2)).await.expect("ask");
    let session = started.expect("a session");
    // The version moves without the deletion of tokens only if a process dies in between, but access
    // tokens are checked against it all the same.
    let bump = "UPDATE users SET session_version = 2 WHERE id = $1";
    control.execute(bump, vec![user.into()]).await.expect("bump");
    let rotated = rotate(&control, &session.token, 100, 3).await;
    assert!(matches!(rotated, Rotation::Rotated { version: 1, .. }), "{rotated:?}");
}
