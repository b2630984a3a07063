//! Tokens that are good, and every kind that is not.

use acuvim_model::UserAccount;

use super::*;

fn jwt(secret: &str, issuer: &str) -> Jwt {
    Jwt::new(secret.as_bytes(), issuer, TimeDelta::hours(1), TimeDelta::days(7))
}

fn user() -> User {
    let account = UserAccount {
        id: Uuid::nil(),
        username: "a".into(),
        role: Role::Operator,
        scope: None,
        enabled: true,
        created_at: DateTime::UNIX_EPOCH,
    };
    User { account, password_hash: String::new(), session_version: 0 }
}

#[test]
fn a_token_is_good_until_it_expires_and_only_where_it_belongs() {
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    let login = Uuid::from_u128(1);
    let token = ours.issue(&user(), login, Utc::now()).expect("token");
    let session = ours.check(&token).expect("good");
    assert_eq!((session.user.role, session.family), (Role::Operator, login));
    assert!(jwt("another secret, as long as that one", "us").check(&token).is_none());
    assert!(jwt("0123456789abcdef0123456789abcdef", "them").check(&token).is_none());
    let old = ours.issue(&user(), login, Utc::now() - TimeDelta::hours(2)).expect("token");
    assert!(ours.check(&old).is_none());
    for junk in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        assert!(ours.check(junk).is_none(), "{junk}");
    }
}

#[test]
fn another_kind_of_token_under_our_key_is_not_an_access_token() {
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    let claims = serde_json::json!({
        "sub": Uuid::nil(), "name": "a", "role": "Admin", "fam": Uuid::nil(), "sv": 0,
        "iss": "us", "aud": AUDIENCE, "iat": 0, "exp": Utc::now().timestamp() + 60,
    });
    let token = encode(&Header::new(Algorithm::HS256), &claims, &ours.encoding).expect("token");
    assert!(ours.check(&token).is_none());
}

/// A token of these claims, whose header may differ from ours.
fn forged(of: &Jwt, algorithm: Algorithm, change: &serde_json::Value) -> String {
    let mut claims = serde_json::json!({
        "sub": Uuid::nil(), "name": "a", "role": "Admin", "fam": Uuid::nil(), "sv": 0,
        "iss": "us", "aud": AUDIENCE, "iat": 0, "exp": Utc::now().timestamp() + 60,
    });
    for (name, value) in change.as_object().expect("an object") {
        match value.is_null() {
            true => drop(claims.as_object_mut().expect("an object").remove(name)),
            false => claims[name] = value.clone(),
        }
    }
    let mut header = Header::new(algorithm);
    header.typ = Some(TYPE.to_owned());
    encode(&header, &claims, &of.encoding).expect("a token")
}

#[test]
fn every_claim_is_required_and_checked() {
    use serde_json::json;
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    let is_good = |change| ours.check(&forged(&ours, Algorithm::HS256, &change)).is_some();
    assert!(is_good(json!({})));
    for claim in ["sub", "name", "role", "fam", "sv", "iss", "aud", "exp"] {
        assert!(!is_good(json!({ claim: null })), "without {claim}");
    }
    for change in [
        json!({"aud": "another-api"}),
        json!({"iss": "them"}),
        json!({"role": "Root"}),
        json!({"sub": "admin"}),
        json!({"sv": "0"}),
        json!({"exp": 0}),
        json!({"exp": Utc::now().timestamp() - 10}),
    ] {
        assert!(!is_good(change.clone()), "{change}");
    }
}

#[test]
fn a_token_of_another_algorithm_is_refused_also_under_our_key() {
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert!(ours.check(&forged(&ours, algorithm, &serde_json::json!({}))).is_none());
    }
}

#[test]
fn a_changed_character_of_a_token_makes_it_invalid() {
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    let token = ours.issue(&user(), Uuid::nil(), Utc::now()).expect("a token");
    let signature = token.rfind('.').expect("a signature") + 1;
    for at in [5, token.find('.').expect("a body") + 5, signature + 5] {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(ours.check(&changed).is_none(), "at {at}");
    }
    assert!(ours.check(&token[..signature]).is_none(), "without its signature");
}

#[test]
fn a_session_knows_when_its_token_ends_and_what_it_was_made_for() {
    let ours = jwt("0123456789abcdef0123456789abcdef", "us");
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).expect("a time");
    let user = User { session_version: 7, ..user() };
    let token = ours.issue(&user, Uuid::from_u128(9), now).expect("a token");
    let session = ours.check(&token).expect("good");
    assert_eq!(session.version, 7);
    assert_eq!(session.expires_at, Some(now + TimeDelta::hours(1)));
    assert!(!format!("{ours:?}").contains("0123456789abcdef"), "its secret is not shown");
}
