//! Facts about the log that are fixed at the first start, because offsets and the assignment of devices
//! to partitions depend on them.

use crate::{
    db::Control,
    error::{Error, ErrorKind},
};

const PARTITIONS: &str = "log.partitions";
const EPOCH: &str = "log.epoch";
const IDENTITY: &str = "log.identity";

/// The facts that every role must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacts {
    /// The number of partitions of every topic.
    pub partitions: u32,
    /// How often the log was laid out anew. Part of every reading's identity.
    pub epoch: i32,
}

impl Control {
    /// The stored facts. The first start stores those given.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] if another number of partitions is stored.
    pub async fn log_facts(&self, partitions: u32) -> Result<LogFacts, Error> {
        self.keep_setting(EPOCH, "0").await?;
        let stored = self.keep_setting(PARTITIONS, &partitions.to_string()).await?;
        if stored != partitions.to_string() {
            return Err(Error::new(
                ErrorKind::Setup,
                format!(
                    "log.partitions is {partitions}, but this system was made with {stored}: \
                     set it back, since devices are placed by it, or see `acuvim log repartition`"
                ),
            ));
        }
        let epoch = i32::try_from(self.stored_number(EPOCH).await?).unwrap_or(0);
        Ok(LogFacts { partitions, epoch })
    }

    /// Checks that the stored offsets belong to this log. The first start stores its identity.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] if they belong to another log.
    pub async fn check_log(&self, identity: &str) -> Result<(), Error> {
        let stored = self.keep_setting(IDENTITY, identity).await?;
        if stored == identity {
            return Ok(());
        }
        // Earlier versions stored `the embedded log` for every embedded log, without its id.
        if identity.strip_prefix(&stored).is_some_and(|rest| rest.starts_with(' ')) {
            return self.remember(IDENTITY, identity).await;
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

    /// Begins a new epoch of the log. Everything of the old epoch must be in the tables already.
    ///
    /// Compare and set: returns false, and changes nothing, if another process has begun one since
    /// `from` was read.
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
        tx.set_setting(PARTITIONS, &partitions.to_string()).await?;
        tx.set_setting(IDENTITY, identity).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The stored facts, or `None` before the first start.
    pub async fn stored_log_facts(&self) -> Result<Option<LogFacts>, Error> {
        if self.remembered(PARTITIONS).await?.is_none() {
            return Ok(None);
        }
        let partitions = u32::try_from(self.stored_number(PARTITIONS).await?).unwrap_or(0);
        let epoch = i32::try_from(self.stored_number(EPOCH).await?).unwrap_or(0);
        Ok(Some(LogFacts { partitions, epoch }))
    }

    async fn stored_number(&self, name: &'static str) -> Result<i64, Error> {
        let text = self.remembered(name).await?;
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the stored setting {name} is not a number"))
        })
    }
}

#[cfg(test)]
mod tests;
