//! The one place that knows which database it is: pools, transactions, binding and fetching.

use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    Arguments, FromRow, SqlStr, Sqlite, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};
use uuid::Uuid;

use crate::{Error, ErrorKind};

/// The control database. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct Control {
    pool: Pool,
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
}

/// A transaction; dropped without `commit` it changes nothing.
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

/// A value to bind. Each kind can be null, and says its type even then, which PostgreSQL needs.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
    Time(Option<DateTime<Utc>>),
    Id(Uuid),
    Json(serde_json::Value),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}
impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}
impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}
impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}
impl From<DateTime<Utc>> for Value {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(Some(time))
    }
}
impl From<Option<DateTime<Utc>>> for Value {
    fn from(time: Option<DateTime<Utc>>) -> Self {
        Self::Time(time)
    }
}
impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::Json(json)
    }
}

/// A row type that every engine can fill.
pub(crate) trait Row: for<'r> FromRow<'r, SqliteRow> + Send + Unpin + 'static {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin + 'static {}

impl Control {
    /// Opens the SQLite database at a path, makes it if it is not there, and brings it to this
    /// version's schema.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] when the file can't be used or belongs to a newer version.
    pub async fn open_sqlite(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A 2xx must survive a power cut, not only a kill.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let setup = |what: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Setup, format!("{} (control.url): {what}", path.display()))
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(15))
            .connect_with(options)
            .await
            .map_err(|e| setup(&e))?;
        migrations().run(&pool).await.map_err(|e| setup(&e))?;
        Ok(Self { pool: Pool::Sqlite(pool) })
    }

    /// Ends its connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
        }
    }

    /// Begins a transaction that may write.
    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        match &self.pool {
            // IMMEDIATE: a writer waits at the start, and is never refused in the middle.
            Pool::Sqlite(pool) => Ok(Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?)),
        }
    }

    pub(crate) async fn fetch_all<T: Row>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        match &self.pool {
            Pool::Sqlite(pool) => {
                let query = sqlx::query_as_with::<Sqlite, T, _>(sql, bind(values)?);
                Ok(query.fetch_all(pool).await?)
            }
        }
    }

    pub(crate) async fn fetch_optional<T: Row>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Runs one statement by itself; answers with the rows it touched.
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        match &self.pool {
            Pool::Sqlite(pool) => {
                let query = sqlx::query_with::<Sqlite, _>(sql, bind(values)?);
                Ok(query.execute(pool).await?.rows_affected())
            }
        }
    }
}

impl Tx {
    pub(crate) async fn fetch_all<T: Row>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_as_with::<Sqlite, T, _>(sql, bind(values)?);
                Ok(query.fetch_all(&mut **tx).await?)
            }
        }
    }

    pub(crate) async fn execute(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with::<Sqlite, _>(sql, bind(values)?);
                Ok(query.execute(&mut **tx).await?.rows_affected())
            }
        }
    }

    /// Makes it so. An error may hide a success: look before trying again.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(tx) => Ok(tx.commit().await?),
        }
    }
}

fn bind(values: Vec<Value>) -> Result<SqliteArguments, Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Text(v) => arguments.add(v),
            Value::Int(v) => arguments.add(v),
            Value::Bool(v) => arguments.add(v),
            Value::Time(v) => arguments.add(v),
            Value::Id(v) => arguments.add(v),
            Value::Json(v) => arguments.add(v),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn migrations() -> Migrator {
    let start = SqlStr::from_static(include_str!("../migrations/0001_start.sql"));
    Migrator::with_migrations(vec![Migration::new(
        1,
        "start".into(),
        MigrationType::Simple,
        start,
        false,
    )])
}
