//! People who log in.

use acuvim_schemas::api::{Role, Scope, UserAccount};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    By, Control, Error, ErrorKind,
    db::Tx,
    scope::{from_json, to_json},
};

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What others see of them.
    pub account: UserAccount,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// Grows when all sessions end: an access token of an older one is no longer good.
    pub session_version: i64,
}

/// A change of a user; what is none stays as it is.
#[derive(Debug, Clone)]
pub struct UserChange {
    /// What they may do.
    pub role: Role,
    /// The devices they see; none: all.
    pub scope: Option<Scope>,
    /// Whether they can log in.
    pub enabled: Option<bool>,
    /// The hash of a new password.
    pub password_hash: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChanged {
    /// It is made.
    Done,
    /// There is no such user.
    NotFound,
    /// Nobody would be left who may do everything.
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

pub(crate) fn parse_role(name: &str) -> Result<Role, Error> {
    Role::parse(name)
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("a stored role is `{name}`")))
}

impl Control {
    /// Whether nobody can log in yet.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn has_no_users(&self) -> Result<bool, Error> {
        let any: Option<(Uuid,)> =
            self.fetch_optional("SELECT id FROM users LIMIT 1", vec![]).await?;
        Ok(any.is_none())
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the name is taken.
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

    /// The user of that name, whatever its case.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// The user of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// A page of users by name, and how many there are.
    ///
    /// # Errors
    /// When the database can't be asked.
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
        let total: Option<(i64,)> =
            self.fetch_optional("SELECT COUNT(*) FROM users", vec![]).await?;
        let users = rows
            .into_iter()
            .map(|row| User::try_from(row).map(|user| user.account))
            .collect::<Result<_, _>>()?;
        Ok((users, total.map_or(0, |t| t.0)))
    }

    /// Changes a user, and ends their sessions: what they may do begins anew.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// Removes a user with their sessions.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// Changes a password and ends the user's sessions, in one.
    ///
    /// # Errors
    /// When the database can't be asked.
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
    /// Two that each remove one of the last two admins must not both succeed.
    async fn lock_users(&mut self) -> Result<(), Error> {
        self.execute(
            "INSERT INTO settings (name, value) VALUES ('users.lock', '1')
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            vec![],
        )
        .await
        .map(|_| ())
    }

    /// Whether somebody is left who sees and may do everything.
    async fn has_admin(&mut self) -> Result<bool, Error> {
        let admins: Option<(i64,)> = self
            .fetch_optional(
                "SELECT COUNT(*) FROM users
                 WHERE role = 'Admin' AND enabled = $1 AND scope IS NULL",
                vec![true.into()],
            )
            .await?;
        Ok(admins.is_some_and(|(n,)| n > 0))
    }
}
