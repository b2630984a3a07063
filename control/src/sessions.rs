//! Refresh tokens: each good for one use; a second use ends every token that came from the login.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{By, Control, Error, hash_secret, new_secret};

/// What became of a refresh token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// Good: the user, and the token for the next time.
    Rotated {
        /// Whose session it is.
        user_id: Uuid,
        /// The user's session version at the login: another since then ends it.
        version: i64,
        /// The next refresh token.
        token: String,
    },
    /// Used before: somebody has a copy, so the whole family is ended.
    Reused,
    /// Unknown or expired.
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
    /// Begins a session of a user as they were when their password was checked; answers with its
    /// first refresh token, or with none if they have changed since.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn start_session(
        &self,
        user_id: Uuid,
        version: i64,
        expires_at: DateTime<Utc>,
        by: &By,
    ) -> Result<Option<String>, Error> {
        let token = new_secret("acr_");
        let mut tx = self.begin().await?;
        let begun = tx
            .execute(
                "INSERT INTO refresh_tokens
                     (token_hash, family, user_id, expires_at, used, session_version)
                 SELECT $1, $2, id, $3, $4, session_version FROM users
                 WHERE id = $5 AND session_version = $6 AND enabled = $7",
                vec![
                    hash_secret(&token).into(),
                    Uuid::now_v7().into(),
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
        Ok(Some(token))
    }

    /// Uses a refresh token up for the next one.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rotate_session(
        &self,
        token: &str,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<Rotation, Error> {
        let hash = hash_secret(token);
        let mut tx = self.begin().await?;
        let rows: Vec<TokenRow> = tx
            .fetch_all(
                "SELECT family, user_id, expires_at, used, session_version FROM refresh_tokens
                 WHERE token_hash = $1",
                vec![hash.as_str().into()],
            )
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(Rotation::Unknown) };
        let taken = tx
            .execute(
                "UPDATE refresh_tokens SET used = $1 WHERE token_hash = $2 AND used = $3",
                vec![true.into(), hash.as_str().into(), false.into()],
            )
            .await?;
        if row.used || taken == 0 {
            tx.execute("DELETE FROM refresh_tokens WHERE family = $1", vec![row.family.into()])
                .await?;
            tx.commit().await?;
            return Ok(Rotation::Reused);
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
        tx.execute("DELETE FROM refresh_tokens WHERE expires_at <= $1", vec![now.into()]).await?;
        tx.commit().await?;
        let (user_id, version) = (row.user_id, row.session_version);
        Ok(Rotation::Rotated { user_id, version, token: next })
    }

    /// Ends the session that a refresh token belongs to; an unknown one ends nothing.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn end_session(&self, token: &str) -> Result<(), Error> {
        self.execute(
            "DELETE FROM refresh_tokens WHERE family IN
             (SELECT family FROM refresh_tokens WHERE token_hash = $1)",
            vec![hash_secret(token).as_str().into()],
        )
        .await
        .map(|_| ())
    }
}
