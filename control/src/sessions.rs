//! Sessions: a login and the tokens that are issued for it.
//!
//! Each refresh token can be used once, for the next one. A second use shows that somebody has a copy, and
//! ends the session with all its tokens. Access tokens are valid while their session has a refresh token.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
    secrets::{hash_secret, new_secret},
    users::User,
};

/// A new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Its id, which all its tokens share.
    pub family: Uuid,
    /// Its first refresh token.
    pub token: String,
}

/// The outcome of using a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The token was valid.
    Rotated {
        /// The user of the session.
        user_id: Uuid,
        /// The id of the session.
        family: Uuid,
        /// The session version of the user at the login. The session is over if it has changed since.
        version: i64,
        /// The next refresh token.
        token: String,
    },
    /// The token was used before, so the session with this id was ended.
    Reused(Uuid),
    /// The token is unknown or expired.
    Unknown,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    family: Uuid,
    user_id: Uuid,
    expires_at: DateTime<Utc>,
    used: bool,
    session_version: i64,
}

impl Control {
    /// Starts a session for a user whose password was checked at a session version. `None` if the user has
    /// changed since.
    pub async fn start_session(
        &self,
        user_id: Uuid,
        version: i64,
        expires_at: DateTime<Utc>,
        by: &By,
    ) -> Result<Option<NewSession>, Error> {
        let (family, token) = (Uuid::now_v7(), new_secret("acr_"));
        let mut tx = self.begin().await?;
        // Inserted from the row of the user, so that there is nothing to insert if the password was
        // changed, or the user disabled, since the password was checked.
        let begun = tx
            .execute(
                "INSERT INTO refresh_tokens
                     (token_hash, family, user_id, expires_at, used, session_version)
                 SELECT $1, $2, id, $3, $4, session_version FROM users
                 WHERE id = $5 AND session_version = $6 AND enabled = $7",
                vec![
                    hash_secret(&token).into(),
                    family.into(),
                    expires_at.into(),
                    false.into(),
                    user_id.into(),
                    version.into(),
                    true.into(),
                ],
            )
            .await?;
        if begun == 0 {
            return Ok(None);
        }
        tx.audit(by, "user.login", &user_id.to_string(), serde_json::json!({})).await?;
        tx.commit().await?;
        Ok(Some(NewSession { family, token }))
    }

    /// The user of a session, unless it has ended.
    pub async fn session_user(&self, user_id: Uuid, family: Uuid) -> Result<Option<User>, Error> {
        let sql = "SELECT COUNT(*) FROM refresh_tokens WHERE family = $1 AND user_id = $2";
        match self.count(sql, vec![family.into(), user_id.into()]).await? {
            0 => Ok(None),
            _ => self.user(user_id).await,
        }
    }

    /// Exchanges a refresh token for the next one.
    pub async fn rotate_session(
        &self,
        token: &str,
        expires_at: DateTime<Utc>,
        by: &By,
    ) -> Result<Rotation, Error> {
        let (hash, now) = (hash_secret(token), by.at);
        let mut tx = self.begin().await?;
        let rows: Vec<TokenRow> = tx
            .fetch_all(
                "SELECT family, user_id, expires_at, used, session_version FROM refresh_tokens
                 WHERE token_hash = $1",
                vec![hash.as_str().into()],
            )
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(Rotation::Unknown) };
        // Of two concurrent uses of a token, one finds it used already and counts as the reuse.
        let taken = tx
            .execute(
                "UPDATE refresh_tokens SET used = $1 WHERE token_hash = $2 AND used = $3",
                vec![true.into(), hash.as_str().into(), false.into()],
            )
            .await?;
        // Before the expiry is looked at: a copy that somebody uses late is a theft as well.
        if row.used || taken == 0 {
            end_reused(&mut tx, &row, by).await?;
            tx.commit().await?;
            return Ok(Rotation::Reused(row.family));
        }
        if row.expires_at <= now {
            return Ok(Rotation::Unknown);
        }
        let next = new_secret("acr_");
        tx.execute(
            "INSERT INTO refresh_tokens
                 (token_hash, family, user_id, expires_at, used, session_version)
             VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                hash_secret(&next).as_str().into(),
                row.family.into(),
                row.user_id.into(),
                expires_at.into(),
                false.into(),
                row.session_version.into(),
            ],
        )
        .await?;
        // Where tokens are made is also where expired ones are removed.
        tx.execute("DELETE FROM refresh_tokens WHERE expires_at <= $1", vec![now.into()]).await?;
        tx.commit().await?;
        let TokenRow { user_id, family, session_version: version, .. } = row;
        Ok(Rotation::Rotated { user_id, family, version, token: next })
    }

    /// Ends the session of a refresh token, and returns its id. `None` if the token is unknown.
    pub async fn end_session(&self, token: &str) -> Result<Option<Uuid>, Error> {
        let mut tx = self.begin().await?;
        let family: Option<(Uuid,)> = tx
            .fetch_optional(
                "SELECT family FROM refresh_tokens WHERE token_hash = $1",
                vec![hash_secret(token).as_str().into()],
            )
            .await?;
        let Some((family,)) = family else { return Ok(None) };
        tx.execute("DELETE FROM refresh_tokens WHERE family = $1", vec![family.into()]).await?;
        tx.commit().await?;
        Ok(Some(family))
    }
}

/// Ends a session because one of its tokens was used twice. The audit names the user and the address of the
/// second use, although nobody can tell which of the two held the copy.
async fn end_reused(tx: &mut Tx, row: &TokenRow, by: &By) -> Result<(), Error> {
    tx.execute("DELETE FROM refresh_tokens WHERE family = $1", vec![row.family.into()]).await?;
    let name: Option<(String,)> = tx
        .fetch_optional("SELECT username FROM users WHERE id = $1", vec![row.user_id.into()])
        .await?;
    let name = name.map(|(name,)| name).unwrap_or_default();
    let by = By { id: Some(row.user_id), name, ..by.clone() };
    let detail = serde_json::json!({ "session": row.family });
    tx.audit(&by, "user.token_reused", &row.user_id.to_string(), detail).await
}

#[cfg(test)]
mod tests;
