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
    /// The user as they were when the token was made; their role may have changed since.
    pub user: UserInfo,
    /// The login that it comes from.
    pub family: Uuid,
    /// The session version it was made for.
    pub version: i64,
    /// When the token expires, to the second.
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
        // The library accepts a token without a claim unless the claim is required here.
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Seconds by which the clocks of processes that share the secret may differ.
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
        // Without this check a token for another purpose under the same key would be a login.
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
mod tests;
