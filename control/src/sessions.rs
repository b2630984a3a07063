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
}

impl Control {
    /// Begins a session; answers with its first refresh token.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn start_session(
        &self,
        user_id: Uuid,
        expires_at: DateTime<Utc>,
        by: &By,
    ) -> Result<String, Error> {
        let token = new_secret("acr_");
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO refresh_tokens (token_hash, family, user_id, expires_at, used)
             VALUES ($1, $2, $3, $4, $5)",
            vec![
                hash_secret(&token).as_str().into(),
                Uuid::now_v7().into(),
                user_id.into(),
                expires_at.into(),
                false.into(),
            ],
        )
        .await?;
        tx.audit(by, "user.login", &user_id.to_string(), serde_json::json!({})).await?;
        tx.commit().await?;
        Ok(token)
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
                "SELECT family, user_id, expires_at, used FROM refresh_tokens
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
            "INSERT INTO refresh_tokens (token_hash, family, user_id, expires_at, used)
             VALUES ($1, $2, $3, $4, $5)",
            vec![
                hash_secret(&next).as_str().into(),
                row.family.into(),
                row.user_id.into(),
                expires_at.into(),
                false.into(),
            ],
        )
        .await?;
        tx.execute("DELETE FROM refresh_tokens WHERE expires_at <= $1", vec![now.into()]).await?;
        tx.commit().await?;
        Ok(Rotation::Rotated { user_id: row.user_id, token: next })
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
