//! API keys, for programs. The secret of a key is shown once and stored as a hash.

use acuvim_model::{CreatedKey, Key, NewKey};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    audit::By,
    db::Control,
    error::Error,
    scope::{from_json, to_json},
    secrets::{hash_secret, new_secret},
    users::parse_role,
};

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: Uuid,
    name: String,
    role: String,
    scope: Option<Json>,
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl TryFrom<KeyRow> for Key {
    type Error = Error;
    fn try_from(row: KeyRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id,
            name: row.name,
            role: parse_role(&row.role)?,
            scope: from_json(row.scope)?,
            expires_at: row.expires_at,
            created_at: row.created_at,
        })
    }
}

impl Control {
    /// Creates a key. Only the returned value has its secret.
    pub async fn create_key(&self, new: &NewKey, by: &By) -> Result<CreatedKey, Error> {
        let secret = new_secret("acv_");
        let key = Key {
            id: Uuid::now_v7(),
            name: new.name.clone(),
            role: new.role,
            scope: new.scope.clone(),
            expires_at: new.expires_at,
            created_at: by.at,
        };
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO api_keys (id, name, secret_hash, role, scope, expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                key.id.into(),
                key.name.as_str().into(),
                hash_secret(&secret).into(),
                key.role.as_str().into(),
                to_json(key.scope.as_ref()).into(),
                key.expires_at.into(),
                by.at.into(),
            ],
        )
        .await?;
        tx.audit(by, "key.create", &key.id.to_string(), json!(key)).await?;
        tx.commit().await?;
        Ok(CreatedKey { key, secret })
    }

    /// The key with a secret, unless it has expired.
    pub async fn key_by_secret(
        &self,
        secret: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Key>, Error> {
        let row: Option<KeyRow> = self
            .fetch_optional(
                "SELECT id, name, role, scope, expires_at, created_at FROM api_keys
                 WHERE secret_hash = $1",
                vec![hash_secret(secret).as_str().into()],
            )
            .await?;
        let key = row.map(Key::try_from).transpose()?;
        Ok(key.filter(|k| k.expires_at.is_none_or(|end| end > now)))
    }

    /// The key with an id, unless it has expired.
    pub async fn key(&self, id: Uuid, now: DateTime<Utc>) -> Result<Option<Key>, Error> {
        let row: Option<KeyRow> = self
            .fetch_optional(
                "SELECT id, name, role, scope, expires_at, created_at FROM api_keys WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        let key = row.map(Key::try_from).transpose()?;
        Ok(key.filter(|k| k.expires_at.is_none_or(|end| end > now)))
    }

    /// A page of keys by id, after `after`, and the number of all.
    pub async fn keys(&self, after: Option<Uuid>, limit: i64) -> Result<(Vec<Key>, i64), Error> {
        let rows: Vec<KeyRow> = self
            .fetch_all(
                "SELECT id, name, role, scope, expires_at, created_at FROM api_keys
                 WHERE id > $1 ORDER BY id LIMIT $2",
                vec![after.unwrap_or(Uuid::nil()).into(), limit.into()],
            )
            .await?;
        let total = self.count("SELECT COUNT(*) FROM api_keys", vec![]).await?;
        let keys = rows.into_iter().map(Key::try_from).collect::<Result<_, _>>()?;
        Ok((keys, total))
    }

    /// Deletes a key. False if there is no such key.
    pub async fn delete_key(&self, id: Uuid, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if tx.execute("DELETE FROM api_keys WHERE id = $1", vec![id.into()]).await? == 0 {
            return Ok(false);
        }
        tx.audit(by, "key.delete", &id.to_string(), json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
