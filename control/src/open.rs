//! Opening the control database, with the migration to the schema of this version.

use std::{path::Path, str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    db::{Control, Pool, STATEMENT_TIMEOUT},
    error::{Error, ErrorKind},
};

/// Connections of one process. PostgreSQL allows 100 by default, which is enough for a dozen processes; on
/// SQLite there is one writer anyway.
const MAX_CONNECTIONS: u32 = 8;

impl Control {
    /// Opens the SQLite database at a path, creating the file if needed, and migrates it to the schema
    /// of this version.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] if the file can't be used or belongs to a newer version.
    pub async fn open_sqlite(path: &Path) -> Result<Self, Error> {
        // A change that was acknowledged over HTTP must survive a power cut, not only a kill.
        Self::open_file(path, SqliteSynchronous::Full).await
    }

    /// Opens the SQLite database at a path. Tests open it without syncing, because a sync takes longer
    /// than all else that they do.
    pub(crate) async fn open_file(
        path: &Path,
        synchronous: SqliteSynchronous,
    ) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            // Writers of this process queue for a mutex, but another process may hold the file's lock,
            // such as a command that somebody runs by hand.
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true)
            .disable_statement_logging();
        let file = format!("{} (control.url)", path.display());
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(STATEMENT_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|e| Error::caused(ErrorKind::Setup, &file, e))?;
        migrations().run(&pool).await.map_err(|e| refused_migration(&file, e))?;
        Ok(Self::new(Pool::Sqlite(pool, Arc::default())))
    }

    /// Opens an existing PostgreSQL database and migrates it to the schema of this version. Of several
    /// processes that start at once, one runs the migration and the others wait for it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it can't be reached; [`ErrorKind::Setup`] if the URL is invalid,
    /// the login or database is refused, or the schema belongs to a newer version.
    pub async fn open_postgres(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|e| Error::caused(ErrorKind::Setup, "control.url", e))?
            .application_name("acuvim")
            // A process that is paused inside a transaction must not block the others for long.
            .options([
                ("statement_timeout", "15000"),
                ("lock_timeout", "10000"),
                ("idle_in_transaction_session_timeout", "15000"),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(STATEMENT_TIMEOUT)
            .connect_with(options);
        let pool = tokio::time::timeout(STATEMENT_TIMEOUT, pool)
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, "PostgreSQL does not answer"))??;
        match migrations().run(&pool).await {
            Ok(()) => Ok(Self::new(Pool::Postgres(pool))),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(error.into())
            }
            Err(error) => Err(refused_migration("the database (control.url)", error)),
        }
    }
}

fn refused_migration(database: &str, error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            let reason = format!(
                "{database}: made by a newer version of acuvim (its schema is at {version}): \
                 run that version"
            );
            Error::new(ErrorKind::Setup, reason)
        }
        other => Error::caused(ErrorKind::Setup, database, other),
    }
}

fn migrations() -> Migrator {
    let files = [
        ("start", include_str!("../migrations/0001_start.sql")),
        ("fleet", include_str!("../migrations/0002_fleet.sql")),
        ("judgement", include_str!("../migrations/0003_judgement.sql")),
        ("firmware", include_str!("../migrations/0004_firmware.sql")),
        ("live", include_str!("../migrations/0005_live.sql")),
        ("holds", include_str!("../migrations/0006_holds.sql")),
        ("meters", include_str!("../migrations/0007_meters.sql")),
    ];
    let migrations = (1..).zip(files).map(|(version, (name, text))| {
        let text = SqlStr::from_static(text);
        Migration::new(version, name.into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests;
