//! Opening the control database, and bringing it to this version's schema.

use std::{path::Path, str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    Control, Error, ErrorKind,
    db::{ANSWER, Pool},
};

/// Connections that a process may have open.
const CONNECTIONS: u32 = 8;

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
            .foreign_keys(true)
            .disable_statement_logging();
        let setup = |what: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Setup, format!("{} (control.url): {what}", path.display()))
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ANSWER)
            .connect_with(options)
            .await
            .map_err(|e| setup(&e))?;
        migrations().run(&pool).await.map_err(|e| setup(&explained(&e)))?;
        Ok(Self::new(Pool::Sqlite(pool, Arc::default())))
    }

    /// Opens a PostgreSQL database that is there, and brings it to this version's schema; of
    /// several processes that start at once, one does.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it does not answer; [`ErrorKind::Setup`] when the URL is
    /// none, the login or database is refused, or the schema belongs to a newer version.
    pub async fn open_postgres(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|e| Error::new(ErrorKind::Setup, format!("control.url: {e}")))?
            .application_name("acuvim")
            // A process that was paused in a transaction must not hold the others up for long.
            .options([
                ("statement_timeout", "15000"),
                ("lock_timeout", "10000"),
                ("idle_in_transaction_session_timeout", "15000"),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ANSWER)
            .connect_with(options);
        let pool = tokio::time::timeout(ANSWER, pool)
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, "PostgreSQL does not answer"))??;
        match migrations().run(&pool).await {
            Ok(()) => Ok(Self::new(Pool::Postgres(pool))),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(error.into())
            }
            Err(error) => Err(Error::new(
                ErrorKind::Setup,
                format!("the database (control.url): {}", explained(&error)),
            )),
        }
    }
}

fn explained(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => format!(
            "made by a newer version of acuvim (its schema is at {version}): run that version"
        ),
        other => other.to_string(),
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
