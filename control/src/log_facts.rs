//! What is fixed at the first start, because offsets and hashes depend on it.

use crate::{Control, Error, ErrorKind};

/// The facts of the log that every role must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacts {
    /// Partitions of every topic.
    pub partitions: u32,
    /// Counts the times that the log was laid out anew; part of every identity.
    pub epoch: i32,
}

impl Control {
    /// The stored facts; the first start stores what it was given.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] when the settings ask for another number of partitions.
    pub async fn log_facts(&self, partitions: u32) -> Result<LogFacts, Error> {
        self.keep_setting("log.epoch", "0").await?;
        let stored = self.keep_setting("log.partitions", &partitions.to_string()).await?;
        if stored != partitions.to_string() {
            return Err(Error::new(
                ErrorKind::Setup,
                format!(
                    "log.partitions is {partitions}, but this system was made with {stored}: \
                     set it back, since devices are placed by it, or see `acuvim log repartition`"
                ),
            ));
        }
        let epoch = i32::try_from(self.stored_number("log.epoch").await?).unwrap_or(0);
        Ok(LogFacts { partitions, epoch })
    }

    /// Checks that this is the log that the stored offsets are of; the first start stores it.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] when it is another.
    pub async fn check_log(&self, identity: &str) -> Result<(), Error> {
        let stored = self.keep_setting("log.identity", identity).await?;
        if stored == identity {
            return Ok(());
        }
        // Earlier versions called every embedded log `the embedded log`.
        if identity.strip_prefix(&stored).is_some_and(|rest| rest.starts_with(' ')) {
            self.execute(
                "UPDATE settings SET value = $1 WHERE name = 'log.identity'",
                vec![identity.into()],
            )
            .await?;
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Setup,
            format!(
                "the log is {identity}, but this system was made with {stored}: offsets of one mean \
                 nothing in the other. Set log.url (or data.dir) back, move with `acuvim log \
                 repartition`, or, if the old log is lost, begin a new one with `acuvim log \
                 repartition --old-log-is-lost`"
            ),
        ))
    }

    /// Begins a new epoch of the log; false if the stored facts are not those given, so that
    /// somebody else was faster. Everything of the old epoch must be in the tables.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn begin_epoch(
        &self,
        from: LogFacts,
        partitions: u32,
        identity: &str,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let (old, new) = (from.epoch.to_string(), (from.epoch + 1).to_string());
        let moved = tx
            .execute(
                "UPDATE settings SET value = $1 WHERE name = 'log.epoch' AND value = $2",
                vec![new.as_str().into(), old.as_str().into()],
            )
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        for (name, value) in
            [("log.partitions", partitions.to_string()), ("log.identity", identity.to_owned())]
        {
            tx.execute(
                "INSERT INTO settings (name, value) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                vec![name.into(), value.as_str().into()],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The stored number of partitions and epoch; none before the first start.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn stored_log_facts(&self) -> Result<Option<LogFacts>, Error> {
        let rows: Vec<(String,)> = self
            .fetch_all("SELECT value FROM settings WHERE name = 'log.partitions'", vec![])
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let partitions = u32::try_from(self.stored_number("log.partitions").await?).unwrap_or(0);
        let epoch = i32::try_from(self.stored_number("log.epoch").await?).unwrap_or(0);
        Ok(Some(LogFacts { partitions, epoch }))
    }

    /// A secret that all processes share: the first to ask for it makes it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn shared_secret(&self, name: &'static str) -> Result<String, Error> {
        self.keep_setting(name, &crate::new_secret("")).await
    }

    /// What was remembered last under a name.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn remembered(&self, name: &'static str) -> Result<Option<String>, Error> {
        let row: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = $1", vec![name.into()])
            .await?;
        Ok(row.map(|(value,)| value))
    }

    /// Remembers something under a name, in place of what was before.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn remember(&self, name: &'static str, value: &str) -> Result<(), Error> {
        self.execute(
            "INSERT INTO settings (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            vec![name.into(), value.into()],
        )
        .await
        .map(drop)
    }

    /// Stores a setting unless it is stored already; answers with what is stored.
    async fn keep_setting(&self, name: &'static str, value: &str) -> Result<String, Error> {
        self.execute(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            vec![name.into(), value.into()],
        )
        .await?;
        let row: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = $1", vec![name.into()])
            .await?;
        row.map(|(stored,)| stored).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the stored setting {name} is gone"))
        })
    }

    async fn stored_number(&self, name: &'static str) -> Result<i64, Error> {
        let row: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = $1", vec![name.into()])
            .await?;
        row.and_then(|(text,)| text.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the stored setting {name} is not a number"))
        })
    }
}
