use acuvim_model::Role;

use super::*;
use crate::testing::{at, at_micros, audited, by, fresh, scope_of};

fn new(name: &str, expires: Option<i64>) -> NewKey {
    NewKey { name: name.into(), role: Role::Operator, scope: None, expires_at: expires.map(at) }
}

#[tokio::test]
async fn a_key_works_until_the_moment_at_which_it_expires() {
    let (_dir, control) = fresh().await;
    let made = control.create_key(&new("k", Some(100)), &by(0)).await.expect("create");
    for (now, works) in [(at(0), true), (at_micros(99_999_999), true), (at(100), false)] {
        let found = control.key_by_secret(&made.secret, now).await.expect("ask");
        assert_eq!(found.is_some(), works, "{now}");
        let found = control.key(made.key.id, now).await.expect("ask");
        assert_eq!(found.is_some(), works, "{now}");
    }
    let forever = control.create_key(&new("f", None), &by(0)).await.expect("create");
    let found = control.key_by_secret(&forever.secret, at(3_000_000_000)).await.expect("ask");
    assert_eq!(found, Some(forever.key));
}

#[tokio::test]
async fn only_the_whole_secret_opens() {
    let (_dir, control) = fresh().await;
    let made = control.create_key(&new("k", None), &by(0)).await.expect("create");
    let hash = hash_secret(&made.secret);
    let (upper, short) = (made.secret.to_uppercase(), &made.secret[..made.secret.len() - 1]);
    for wrong in ["", "acv_", &hash, &upper, short, "' OR ''='"] {
        assert_eq!(control.key_by_secret(wrong, at(1)).await.expect("ask"), None, "{wrong}");
    }
    assert!(made.secret.starts_with("acv_"));
}

#[tokio::test]
async fn a_secret_is_in_its_answer_and_nowhere_else() {
    let (_dir, control) = fresh().await;
    let made = control.create_key(&new("k", None), &by(0)).await.expect("create");
    let (page, _) = control.keys(None, 9).await.expect("list");
    let shown = serde_json::to_string(&(page, audited(&control).await)).expect("JSON");
    assert!(!shown.contains(&made.secret) && !shown.contains(&hash_secret(&made.secret)));
    let stored: Option<(String,)> =
        control.fetch_optional("SELECT secret_hash FROM api_keys", vec![]).await.expect("read");
    assert_eq!(stored.map(|(hash,)| hash), Some(hash_secret(&made.secret)));
}

#[tokio::test]
async fn a_key_keeps_its_scope_and_an_unreadable_one_opens_nothing() {
    let (_dir, control) = fresh().await;
    let scoped = NewKey { scope: Some(scope_of(&["d"])), ..new("k", None) };
    let made = control.create_key(&scoped, &by(0)).await.expect("create");
    let found = control.key_by_secret(&made.secret, at(1)).await.expect("ask").expect("there");
    assert_eq!(found.scope, Some(scope_of(&["d"])));
    control.execute("UPDATE api_keys SET scope = '7'", vec![]).await.expect("update");
    assert!(control.key_by_secret(&made.secret, at(1)).await.is_err());
}

#[tokio::test]
async fn a_deleted_key_is_deleted_once_and_pages_hold_each_once() {
    let (_dir, control) = fresh().await;
    let mut ids = Vec::new();
    for name in ["b", "a", "a", "c"] {
        ids.push(control.create_key(&new(name, None), &by(0)).await.expect("create").key.id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, total) = control.keys(after, 3).await.expect("list");
        assert_eq!(total, 4);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.into_iter().map(|key| key.id));
    }
    assert_eq!(seen, ids, "a name may be given twice");
    let before = audited(&control).await.len();
    assert!(control.delete_key(ids[1], &by(1)).await.expect("delete"));
    assert!(!control.delete_key(ids[1], &by(2)).await.expect("delete"));
    assert_eq!(audited(&control).await.len(), before + 1);
    assert_eq!(control.keys(None, 9).await.expect("list").1, 3);
}
