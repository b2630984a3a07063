//! Access tokens: JWT, one algorithm, every claim required.

use acuvim_control::User;
use acuvim_model::{Role, UserInfo};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The audience of every token.
const AUDIENCE: &str = "acuvim-api";

/// The type of an access token (RFC 9068).
const TYPE: &str = "at+jwt";

/// The claims of a valid access token. Whether its session still holds is looked up in control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user.
    pub user: UserInfo,
    /// The login that it comes from.
    pub family: Uuid,
    /// The session version it was made for.
    pub version: i64,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes and checks access tokens.
pub struct Jwt {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    issuer: String,
    /// How long an access token is valid.
    pub access: TimeDelta,
    /// How long a refresh token is valid.
    pub refresh: TimeDelta,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: Uuid,
    name: String,
    role: Role,
    /// The login that the token comes from, which a logout ends.
    fam: Uuid,
    /// The user's session version, which a change of password raises.
    sv: i64,
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl Jwt {
    /// Tokens signed with HMAC-SHA-256 under this secret.
    #[must_use]
    pub fn new(secret: &[u8], issuer: &str, access: TimeDelta, refresh: TimeDelta) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = 5;
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            issuer: issuer.to_owned(),
            access,
            refresh,
        }
    }

    /// An access token for a user, with the login that it comes from.
    ///
    /// # Errors
    /// When the claims can't be signed.
    pub fn issue(
        &self,
        user: &User,
        family: Uuid,
        now: DateTime<Utc>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        let claims = Claims {
            sub: user.account.id,
            name: user.account.username.clone(),
            role: user.account.role,
            fam: family,
            sv: user.session_version,
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            iat: now.timestamp(),
            exp: (now + self.access).timestamp(),
        };
        encode(&header, &claims, &self.encoding)
    }

    /// The session of a token; none if the token is forged, expired, for another audience or of another type.
    #[must_use]
    pub fn check(&self, token: &str) -> Option<Session> {
        let data = decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        (data.header.typ.as_deref() == Some(TYPE)).then_some(Session {
            family: data.claims.fam,
            version: data.claims.sv,
            expires_at: DateTime::from_timestamp(data.claims.exp, 0),
            user: UserInfo {
                id: data.claims.sub,
                username: data.claims.name,
                role: data.claims.role,
            },
        })
    }
}

#[cfg(test)]
mod tests {
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
}
