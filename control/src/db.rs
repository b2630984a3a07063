//! Connections and transactions. Only this module knows which engine is behind them.

use std::{sync::Arc, time::Duration};

use sqlx::{
    FromRow, PgPool, Postgres, SqlSafeStr, Sqlite, SqlitePool, postgres::PgRow, sqlite::SqliteRow,
};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::{
    error::{Error, ErrorKind},
    statement::Statement,
    value::{Value, bind},
};

/// How long a statement may take, including the wait for a connection.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// The control database. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct Control {
    pool: Pool,
    /// Wakes the delivery of the outbox, if it runs in this process.
    pub(crate) outbox: Arc<Notify>,
}

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// SQLite allows one writer at a time, and lets waiting writers retry in no order, so that one of
    /// them could starve. The mutex queues writers in the order of their arrival.
    Sqlite(SqlitePool, Arc<Mutex<()>>),
    Postgres(PgPool),
}

/// A transaction. It is rolled back unless committed.
pub(crate) struct Tx {
    engine: Engine,
    /// Whether it has put something into the outbox.
    emits: bool,
}

enum Engine {
    Sqlite(sqlx::Transaction<'static, Sqlite>, OwnedMutexGuard<()>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A row type that can be read from both engines.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}
impl<T> Row for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static
{
}

/// Limits the time of a statement, so that a server which stopped responding can't block callers for
/// ever.
async fn timed<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "control database: no answer")),
    }
}

/// Waits for the turn of an SQLite writer.
async fn turn(turns: &Arc<Mutex<()>>) -> Result<OwnedMutexGuard<()>, Error> {
    let turn = tokio::time::timeout(STATEMENT_TIMEOUT, Arc::clone(turns).lock_owned()).await;
    turn.map_err(|_| Error::new(ErrorKind::Unavailable, "control database: busy with other writes"))
}

impl Control {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, outbox: Arc::default() }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool, _) => pool.close().await,
            // Not waiting for ever for a server that does not respond.
            Pool::Postgres(pool) => {
                let _ = tokio::time::timeout(Duration::from_secs(5), pool.close()).await;
            }
        }
    }

    /// Begins a transaction for writing.
    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        let engine = match &self.pool {
            // IMMEDIATE takes the write lock now. A transaction that takes it later, after a read,
            // may be refused with SQLITE_BUSY.
            Pool::Sqlite(pool, turns) => {
                let turn = turn(turns).await?;
                Engine::Sqlite(timed(pool.begin_with("BEGIN IMMEDIATE")).await?, turn)
            }
            Pool::Postgres(pool) => Engine::Postgres(timed(pool.begin()).await?),
        };
        Ok(Tx { engine, emits: false })
    }

    pub(crate) async fn fetch_all<T: Row>(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        match &self.pool {
            Pool::Sqlite(pool, _) => {
                let query = sqlx::query_as_with::<Sqlite, T, _>(sql, bind::<Sqlite>(values)?);
                timed(query.fetch_all(pool)).await
            }
            Pool::Postgres(pool) => {
                let query = sqlx::query_as_with::<Postgres, T, _>(sql, bind::<Postgres>(values)?);
                timed(query.fetch_all(pool)).await
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

    /// Runs a statement that selects rows.
    pub(crate) async fn select<T: Row>(&self, statement: Statement) -> Result<Vec<T>, Error> {
        let (text, values) = statement.into_parts();
        self.fetch_all(text, values).await
    }

    /// Runs a statement that selects at most one row.
    pub(crate) async fn select_one<T: Row>(
        &self,
        statement: Statement,
    ) -> Result<Option<T>, Error> {
        Ok(self.select(statement).await?.into_iter().next())
    }

    /// Runs a query of one number, such as `SELECT COUNT(*)`; 0 if there is no row.
    pub(crate) async fn count(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<i64, Error> {
        let row: Option<(i64,)> = self.fetch_optional(sql, values).await?;
        Ok(row.map_or(0, |(count,)| count))
    }

    /// The number of rows of a statement that begins with `FROM`.
    pub(crate) async fn count_rows(&self, from: &Statement) -> Result<i64, Error> {
        let mut count = Statement::select("COUNT(*)");
        count.append(from);
        let (text, values) = count.into_parts();
        self.count(text, values).await
    }

    /// Runs one statement in a transaction of its own, and returns the number of affected rows.
    pub(crate) async fn execute(
        &self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        match &self.pool {
            Pool::Sqlite(pool, turns) => {
                let _turn = turn(turns).await?;
                let query = sqlx::query_with::<Sqlite, _>(sql, bind::<Sqlite>(values)?);
                Ok(timed(query.execute(pool)).await?.rows_affected())
            }
            Pool::Postgres(pool) => {
                let query = sqlx::query_with::<Postgres, _>(sql, bind::<Postgres>(values)?);
                Ok(timed(query.execute(pool)).await?.rows_affected())
            }
        }
    }
}

impl Tx {
    /// Marks that the transaction puts something into the outbox.
    pub(crate) const fn mark_emits(&mut self) {
        self.emits = true;
    }

    pub(crate) const fn emits(&self) -> bool {
        self.emits
    }

    pub(crate) async fn select<T: Row>(&mut self, statement: Statement) -> Result<Vec<T>, Error> {
        let (text, values) = statement.into_parts();
        self.fetch_all(text, values).await
    }

    pub(crate) async fn select_one<T: Row>(
        &mut self,
        statement: Statement,
    ) -> Result<Option<T>, Error> {
        Ok(self.select(statement).await?.into_iter().next())
    }

    pub(crate) async fn count(
        &mut self,
        sql: impl SqlSafeStr + Send,
        values: Vec<Value>,
    ) -> Result<i64, Error> {
        let row: Option<(i64,)> = self.fetch_optional(sql, values).await?;
        Ok(row.map_or(0, |(count,)| count))
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
                timed(query.fetch_all(&mut **tx)).await
            }
            Engine::Postgres(tx) => {
                let query = sqlx::query_as_with::<Postgres, T, _>(sql, bind::<Postgres>(values)?);
                timed(query.fetch_all(&mut **tx)).await
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
                Ok(timed(query.execute(&mut **tx)).await?.rows_affected())
            }
            Engine::Postgres(tx) => {
                let query = sqlx::query_with::<Postgres, _>(sql, bind::<Postgres>(values)?);
                Ok(timed(query.execute(&mut **tx)).await?.rows_affected())
            }
        }
    }

    /// Commits. After an error the transaction may still have been committed, because the connection
    /// can break after the commit: read the state back before trying again.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self.engine {
            Engine::Sqlite(tx, _turn) => timed(tx.commit()).await,
            Engine::Postgres(tx) => timed(tx.commit()).await,
        }
    }
}

#[cfg(test)]
mod tests;
