//! Who a token or key is of, at this moment.

use super::*;

fn token_of(name: &'static str, value: &str) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert(name, value.parse().expect("a header"));
    token(&headers)
}

#[test]
fn three_ways_to_say_who_asks() {
    assert_eq!(token_of("authorization", "Bearer abc").as_deref(), Some("abc"));
    assert_eq!(token_of("authorization", "bearer  abc").as_deref(), Some("abc"));
    assert_eq!(token_of("x-api-key", "acv_1").as_deref(), Some("acv_1"));
    let basic = format!("Basic {}", STANDARD.encode("anyone:acv_1"));
    assert_eq!(token_of("authorization", &basic).as_deref(), Some("acv_1"));
    for bad in ["", "Bearer", "Digest x", "Basic !!", "Basic YWJj"] {
        assert_eq!(token_of("authorization", bad), None, "{bad}");
    }
}

#[test]
fn a_key_in_its_own_header_wins_over_a_login() {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer abc".parse().expect("a header"));
    headers.insert("x-api-key", "acv_1".parse().expect("a header"));
    assert_eq!(token(&headers).as_deref(), Some("acv_1"));
    let colons = format!("Basic {}", STANDARD.encode("a:b:c"));
    assert_eq!(token_of("authorization", &colons).as_deref(), Some("b:c"), "passwords have colons");
    assert_eq!(token_of("authorization", "BASIC Og==").as_deref(), Some(""));
}

#[test]
fn an_id_of_a_request_is_kept_as_far_as_there_is_room() {
    let mut headers = HeaderMap::new();
    assert_eq!(request_id(&headers), None);
    headers.insert("x-request-id", "x".repeat(65).parse().expect("a header"));
    assert_eq!(request_id(&headers), Some("x".repeat(64)));
}

fn caller(role: Role, scope: Option<Scope>) -> Caller {
    Caller {
        user: UserInfo { id: Uuid::nil(), username: "a".into(), role },
        scope,
        is_user: true,
        family: None,
        session_version: 0,
        expires_at: None,
        address: None,
        request: None,
    }
}

#[test]
fn a_role_has_the_rights_of_those_below_it() {
    use Role::{Admin, Operator, Viewer};
    for (has, needs, may) in [
        (Viewer, Viewer, true),
        (Viewer, Operator, false),
        (Operator, Viewer, true),
        (Operator, Operator, true),
        (Operator, Admin, false),
        (Admin, Operator, true),
    ] {
        assert_eq!(caller(has, None).require(needs).is_ok(), may, "{has:?} for {needs:?}");
        assert_eq!(caller(has, None).require_all(needs).is_ok(), may);
    }
    let nothing = Scope::default();
    let error = caller(Admin, Some(nothing.clone())).require_all(Viewer).expect_err("a scope");
    assert_eq!(error.problem.status, 403);
    assert!(caller(Admin, Some(nothing)).require(Admin).is_ok());
}

#[tokio::test]
async fn a_token_whose_user_is_gone_is_no_token() {
    use crate::testing::{Server, by};
    let server = Server::new().await;
    let user =
        server.control.create_user("alice", "x", Role::Admin, None, &by()).await.expect("a user");
    let (id, end) = (user.account.id, Utc::now() + chrono::TimeDelta::days(1));
    let session = server.control.start_session(id, 0, end, &by()).await.expect("control answers");
    let family = session.expect("a session").family;
    let issue = |user: &acuvim_control::User, family| {
        server.jwt.issue(user, family, Utc::now()).expect("a token")
    };
    let token = issue(&user, family);
    assert_eq!(server.get(&token, "/api/auth/me").await.json()["username"], "alice");
    let unknown_login = issue(&user, Uuid::nil());
    server.get(&unknown_login, "/api/auth/me").await.problem(401);
    let other_version = acuvim_control::User { session_version: 1, ..user.clone() };
    server.get(&issue(&other_version, family), "/api/auth/me").await.problem(401);
    let mut demoted = user.clone();
    demoted.account.role = Role::Viewer;
    let me = server.get(&issue(&demoted, family), "/api/auth/me").await.json();
    assert_eq!(me["role"], "Admin", "the role is the one that is stored");
    server.control.create_user("root", "x", Role::Admin, None, &by()).await.expect("a user");
    server.control.delete_user(id, &by()).await.expect("control answers");
    server.get(&token, "/api/auth/me").await.problem(401);
}
