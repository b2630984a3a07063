//! Users: people who log in.

use acuvim_model::{Role, Scope, UserAccount};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::{Error, ErrorKind},
    scope::{from_json, to_json},
};

/// A stored user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user as the API shows it.
    pub account: UserAccount,
    /// The hash of the password: argon2id in PHC format.
    pub password_hash: String,
    /// Grows when all sessions end. Access tokens with an older version are no longer valid.
    pub session_version: i64,
}

/// A change of a user.
#[derive(Debug, Clone)]
pub struct UserChange {
    /// The new role.
    pub role: Role,
    /// The new scope, or `None` for all devices.
    pub scope: Option<Scope>,
    /// Whether the user can log in; `None` leaves that unchanged.
    pub enabled: Option<bool>,
    /// The hash of a new password, if it is changed.
    pub password_hash: Option<String>,
}

/// The outcome of changing or deleting a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChanged {
    /// The user was changed or deleted.
    Done,
    /// There is no such user.
    NotFound,
    /// Refused, because no unrestricted administrator would be left.
    LastAdmin,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    username: String,
    password_hash: String,
    role: String,
    scope: Option<Json>,
    enabled: bool,
    session_version: i64,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for User {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self, Error> {
        let account = UserAccount {
            id: row.id,
            username: row.username,
            role: parse_role(&row.role)?,
            scope: from_json(row.scope)?,
            enabled: row.enabled,
            created_at: row.created_at,
        };
        let (password_hash, session_version) = (row.password_hash, row.session_version);
        Ok(Self { account, password_hash, session_version })
    }
}

/// A stored role.
pub(crate) fn parse_role(name: &str) -> Result<Role, Error> {
    Role::parse(name)
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("a stored role is `{name}`")))
}

impl Control {
    /// Whether there are no users yet.
    pub async fn has_no_users(&self) -> Result<bool, Error> {
        let any: Option<(Uuid,)> =
            self.fetch_optional("SELECT id FROM users LIMIT 1", vec![]).await?;
        Ok(any.is_none())
    }

    /// Creates a user.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the name is taken.
    pub async fn create_user(
        &self,
        username: &str,
        password_hash: &str,
        role: Role,
        scope: Option<Scope>,
        by: &By,
    ) -> Result<User, Error> {
        let account = UserAccount {
            id: Uuid::now_v7(),
            // Two users whose names differ only in case would be mistaken for each other.
            username: username.to_lowercase(),
            role,
            scope,
            enabled: true,
            created_at: by.at,
        };
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO users (id, username, password_hash, role, scope, enabled, session_version,
                 created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7)",
            vec![
                account.id.into(),
                account.username.as_str().into(),
                password_hash.into(),
                role.as_str().into(),
                to_json(account.scope.as_ref()).into(),
                true.into(),
                by.at.into(),
            ],
        )
        .await?;
        tx.audit(by, "user.create", &account.id.to_string(), json!(account)).await?;
        tx.commit().await?;
        Ok(User { account, password_hash: password_hash.to_owned(), session_version: 0 })
    }

    /// The user with a name. Upper and lower case are the same.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<User>, Error> {
        let row: Option<Row> = self
            .fetch_optional(
                "SELECT id, username, password_hash, role, scope, enabled, session_version,
                     created_at
                 FROM users WHERE username = $1",
                vec![username.to_lowercase().into()],
            )
            .await?;
        row.map(User::try_from).transpose()
    }

    /// The user with an id.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, Error> {
        let row: Option<Row> = self
            .fetch_optional(
                "SELECT id, username, password_hash, role, scope, enabled, session_version,
                     created_at
                 FROM users WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        row.map(User::try_from).transpose()
    }

    /// A page of users by name, and the number of all.
    pub async fn users(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<(Vec<UserAccount>, i64), Error> {
        let rows: Vec<Row> = self
            .fetch_all(
                "SELECT id, username, password_hash, role, scope, enabled, session_version,
                     created_at
                 FROM users WHERE username > $1 ORDER BY username LIMIT $2",
                vec![after.unwrap_or_default().into(), limit.into()],
            )
            .await?;
        let total = self.count("SELECT COUNT(*) FROM users", vec![]).await?;
        let users = rows
            .into_iter()
            .map(|row| User::try_from(row).map(|user| user.account))
            .collect::<Result<_, _>>()?;
        Ok((users, total))
    }

    /// Changes a user and ends their sessions, so that the new role and scope hold at once.
    pub async fn change_user(
        &self,
        id: Uuid,
        change: &UserChange,
        by: &By,
    ) -> Result<UserChanged, Error> {
        let mut tx = self.begin().await?;
        tx.lock_users().await?;
        let changed = tx
            .execute(
                "UPDATE users SET role = $1, scope = $2, enabled = COALESCE($3, enabled),
                     password_hash = COALESCE($4, password_hash),
                     session_version = session_version + 1
                 WHERE id = $5",
                vec![
                    change.role.as_str().into(),
                    to_json(change.scope.as_ref()).into(),
                    change.enabled.into(),
                    change.password_hash.clone().into(),
                    id.into(),
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(UserChanged::NotFound);
        }
        // Asked after the change, which is rolled back if the answer is no: so the question is about
        // exactly what would be stored.
        if !tx.has_admin().await? {
            return Ok(UserChanged::LastAdmin);
        }
        tx.execute("DELETE FROM refresh_tokens WHERE user_id = $1", vec![id.into()]).await?;
        let detail = json!({
            "role": change.role, "scope": change.scope, "enabled": change.enabled,
            "new_password": change.password_hash.is_some(),
        });
        tx.audit(by, "user.update", &id.to_string(), detail).await?;
        tx.commit().await?;
        Ok(UserChanged::Done)
    }

    /// Deletes a user with their sessions.
    pub async fn delete_user(&self, id: Uuid, by: &By) -> Result<UserChanged, Error> {
        let mut tx = self.begin().await?;
        tx.lock_users().await?;
        tx.execute("DELETE FROM refresh_tokens WHERE user_id = $1", vec![id.into()]).await?;
        if tx.execute("DELETE FROM users WHERE id = $1", vec![id.into()]).await? == 0 {
            return Ok(UserChanged::NotFound);
        }
        if !tx.has_admin().await? {
            return Ok(UserChanged::LastAdmin);
        }
        tx.audit(by, "user.delete", &id.to_string(), json!({})).await?;
        tx.commit().await?;
        Ok(UserChanged::Done)
    }

    /// Changes a password and ends the sessions of the user.
    pub async fn set_password(&self, id: Uuid, password_hash: &str, by: &By) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.execute(
            "UPDATE users SET password_hash = $1, session_version = session_version + 1
             WHERE id = $2",
            vec![password_hash.into(), id.into()],
        )
        .await?;
        tx.execute("DELETE FROM refresh_tokens WHERE user_id = $1", vec![id.into()]).await?;
        tx.audit(by, "user.password", &id.to_string(), json!({})).await?;
        tx.commit().await
    }
}

impl Tx {
    /// Serialises changes of users: two transactions that each remove one of the last two administrators
    /// would otherwise both succeed.
    async fn lock_users(&mut self) -> Result<(), Error> {
        self.set_setting("users.lock", "1").await
    }

    /// Whether there is an enabled administrator without a scope.
    async fn has_admin(&mut self) -> Result<bool, Error> {
        let sql = "SELECT COUNT(*) FROM users
             WHERE role = 'Admin' AND enabled = $1 AND scope IS NULL";
        Ok(self.count(sql, vec![true.into()]).await? > 0)
    }
}

#[cfg(test)]
mod tests;
