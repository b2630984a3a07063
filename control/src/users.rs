//! People who log in.

use acuvim_schemas::api::Role;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Control, Error, ErrorKind};

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Id.
    pub id: Uuid,
    /// Name to log in with, lower case.
    pub username: String,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// What they may do.
    pub role: Role,
    /// Grows when all sessions end: an access token of an older one is no longer good.
    pub session_version: i64,
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: Uuid,
    username: String,
    password_hash: String,
    role: String,
    session_version: i64,
}

impl TryFrom<UserRow> for User {
    type Error = Error;
    fn try_from(row: UserRow) -> Result<Self, Error> {
        let role = parse_role(&row.role)?;
        Ok(Self {
            id: row.id,
            username: row.username,
            password_hash: row.password_hash,
            role,
            session_version: row.session_version,
        })
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
        now: DateTime<Utc>,
    ) -> Result<User, Error> {
        let user = User {
            id: Uuid::now_v7(),
            username: username.to_lowercase(),
            password_hash: password_hash.to_owned(),
            role,
            session_version: 0,
        };
        self.execute(
            "INSERT INTO users (id, username, password_hash, role, session_version, created_at)
             VALUES ($1, $2, $3, $4, 0, $5)",
            vec![
                user.id.into(),
                user.username.as_str().into(),
                password_hash.into(),
                role.as_str().into(),
                now.into(),
            ],
        )
        .await?;
        Ok(user)
    }

    /// The user of that name, whatever its case.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<User>, Error> {
        let row: Option<UserRow> = self
            .fetch_optional(
                "SELECT id, username, password_hash, role, session_version FROM users
                 WHERE username = $1",
                vec![username.to_lowercase().as_str().into()],
            )
            .await?;
        row.map(User::try_from).transpose()
    }

    /// The user of that id.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, Error> {
        let row: Option<UserRow> = self
            .fetch_optional(
                "SELECT id, username, password_hash, role, session_version FROM users
                 WHERE id = $1",
                vec![id.into()],
            )
            .await?;
        row.map(User::try_from).transpose()
    }

    /// Changes a password and ends the user's sessions, in one.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn set_password(&self, id: Uuid, password_hash: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.execute(
            "UPDATE users SET password_hash = $1, session_version = session_version + 1
             WHERE id = $2",
            vec![password_hash.into(), id.into()],
        )
        .await?;
        tx.execute("DELETE FROM refresh_tokens WHERE user_id = $1", vec![id.into()]).await?;
        tx.commit().await
    }
}
