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
        self.execute(
            "INSERT INTO settings (name, value) VALUES ('log.partitions', $1)
             ON CONFLICT (name) DO NOTHING",
            vec![partitions.to_string().as_str().into()],
        )
        .await?;
        self.execute(
            "INSERT INTO settings (name, value) VALUES ('log.epoch', '0')
             ON CONFLICT (name) DO NOTHING",
            vec![],
        )
        .await?;
        let stored = self.stored_number("log.partitions").await?;
        if stored != i64::from(partitions) {
            return Err(Error::new(
                ErrorKind::Setup,
                format!(
                    "log.partitions is {partitions}, but this system was made with {stored}: \
                     set it back, since devices are placed by it"
                ),
            ));
        }
        let epoch = i32::try_from(self.stored_number("log.epoch").await?).unwrap_or(0);
        Ok(LogFacts { partitions, epoch })
    }

    pub(crate) async fn stored_number(&self, name: &'static str) -> Result<i64, Error> {
        let row: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = $1", vec![name.into()])
            .await?;
        row.and_then(|(text,)| text.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the stored setting {name} is not a number"))
        })
    }
}
