//! The one place that knows which database it is: pools, transactions, fetching.

use std::{sync::Arc, time::Duration};

use sqlx::{
    FromRow, PgPool, Postgres, SqlSafeStr, Sqlite, SqlitePool, postgres::PgRow, sqlite::SqliteRow,
};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::{
    Error, ErrorKind,
    value::{Value, bind},
};

/// How long a statement may take, the wait for a connection included.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// The control database. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct Control {
    pool: Pool,
    /// Wakes whoever delivers the outbox, where that is in this process.
    pub(crate) outbox: Arc<Notify>,
}

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// Writers take turns, in the order of their coming: SQLite has one at a time, and lets whoever
    /// asks at the right moment go first, so that one could wait for ever.
    Sqlite(SqlitePool, Arc<Mutex<()>>),
    Postgres(PgPool),
}

/// A transaction; dropped without `commit` it changes nothing.
pub(crate) struct Tx {
    engine: Engine,
    /// Whether it puts something into the outbox.
    tells: bool,
}

enum Engine {
    Sqlite(sqlx::Transaction<'static, Sqlite>, OwnedMutexGuard<()>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A row type that every engine can fill.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}
impl<T> Row for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}

/// A server that stopped answering must not hold a caller for ever.
async fn answered<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "control database: no answer")),
    }
}

/// A writer's turn.
async fn turn(turns: &Arc<Mutex<()>>) -> Result<OwnedMutexGuard<()>, Error> {
    let turn = tokio::time::timeout(ANSWER, Arc::clone(turns).lock_owned()).await;
    turn.map_err(|_| Error::new(ErrorKind::Unavailable, "control database: others write for long"))
}

impl Control {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, outbox: Arc::default() }
    }

    /// Ends its connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool, _) => pool.close().await,
            // One that does not answer is not waited for.
            Pool::Postgres(pool) => {
                let _ = tokio::time::timeout(Duration::from_secs(5), pool.close()).await;
            }
        }
    }

    /// Begins a transaction that may write.
    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        let engine = match &self.pool {
            // IMMEDIATE: a writer waits at the start, and is never refused in the middle.
            Pool::Sqlite(pool, turns) => {
                let turn = turn(turns).await?;
                Engine::Sqlite(answered(pool.begin_with("BEGIN IMMEDIATE")).await?, turn)
            }
            Pool::Postgres(pool) => Engine::Postgres(answered(pool.begin()).await?),
        };
        Ok(Tx { engine, tells: false })
    }

    pub(crate) async fn fetch_all<T: Row>(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        match &self.pool {
            Pool::Sqlite(pool, _) => {
                let query = sqlx::query_as_with::<Sqlite, T, _>(sql, bind::<Sqlite>(values)?);
                answered(query.fetch_all(pool)).await
            }
            Pool::Postgres(pool) => {
                let query = sqlx::query_as_with::<Postgres, T, _>(sql, bind::<Postgres>(values)?);
                answered(query.fetch_all(pool)).await
            }
        }
    }

    pub(crate) async fn fetch_optional<T: Row>(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Runs one statement by itself; answers with the rows it touched.
    pub(crate) async fn execute(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        match &self.pool {
            Pool::Sqlite(pool, turns) => {
                let _turn = turn(turns).await?;
                let query = sqlx::query_with::<Sqlite, _>(sql, bind::<Sqlite>(values)?);
                Ok(answered(query.execute(pool)).await?.rows_affected())
            }
            Pool::Postgres(pool) => {
                let query = sqlx::query_with::<Postgres, _>(sql, bind::<Postgres>(values)?);
                Ok(answered(query.execute(pool)).await?.rows_affected())
            }
        }
    }
}

impl Tx {
    /// Notes that it puts something into the outbox.
    pub(crate) const fn tells(&mut self) {
        self.tells = true;
    }

    /// Whether it does.
    pub(crate) const fn told(&self) -> bool {
        self.tells
    }

    pub(crate) async fn fetch_optional<T: Row>(
        &mut self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    pub(crate) async fn fetch_all<T: Row>(
        &mut self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        match &mut self.engine {
            Engine::Sqlite(tx, _) => {
                let query = sqlx::query_as_with::<Sqlite, T, _>(sql, bind::<Sqlite>(values)?);
                answered(query.fetch_all(&mut **tx)).await
            }
            Engine::Postgres(tx) => {
                let query = sqlx::query_as_with::<Postgres, T, _>(sql, bind::<Postgres>(values)?);
                answered(query.fetch_all(&mut **tx)).await
            }
        }
    }

    pub(crate) async fn execute(
        &mut self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        match &mut self.engine {
            Engine::Sqlite(tx, _) => {
                let query = sqlx::query_with::<Sqlite, _>(sql, bind::<Sqlite>(values)?);
                Ok(answered(query.execute(&mut **tx)).await?.rows_affected())
            }
            Engine::Postgres(tx) => {
                let query = sqlx::query_with::<Postgres, _>(sql, bind::<Postgres>(values)?);
                Ok(answered(query.execute(&mut **tx)).await?.rows_affected())
            }
        }
    }

    /// Makes it so. An error may hide a success: look before trying again.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self.engine {
            Engine::Sqlite(tx, _turn) => answered(tx.commit()).await,
            Engine::Postgres(tx) => answered(tx.commit()).await,
        }
    }
}
