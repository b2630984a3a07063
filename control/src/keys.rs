//! API keys: for programs; shown once, stored as a hash.

use acuvim_schemas::api::{CreatedKey, Key, NewKey};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    By, Control, Error, hash_secret, new_secret,
    scope::{from_json, to_json},
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
    /// Makes a key; the answer is the only place where its secret ever is.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// The key that a secret opens, unless it has expired.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// The key of an id, unless it has expired.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// A page of keys by id, from behind `after`, and how many there are.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn keys(&self, after: Option<Uuid>, limit: i64) -> Result<(Vec<Key>, i64), Error> {
        let rows: Vec<KeyRow> = self
            .fetch_all(
                "SELECT id, name, role, scope, expires_at, created_at FROM api_keys
                 WHERE id > $1 ORDER BY id LIMIT $2",
                vec![after.unwrap_or(Uuid::nil()).into(), limit.into()],
            )
            .await?;
        let total: Option<(i64,)> =
            self.fetch_optional("SELECT COUNT(*) FROM api_keys", vec![]).await?;
        let keys = rows.into_iter().map(Key::try_from).collect::<Result<_, _>>()?;
        Ok((keys, total.map_or(0, |t| t.0)))
    }

    /// Ends a key at once; false if there is none of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
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
