//! The table `settings`: single values under a name, shared by all processes.

use crate::{
    db::{Control, Tx},
    error::{Error, ErrorKind},
    secrets::new_secret,
};

const READ: &str = "SELECT value FROM settings WHERE name = $1";
const WRITE: &str = "INSERT INTO settings (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const KEEP: &str = "INSERT INTO settings (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO NOTHING";

impl Control {
    /// A secret that all processes share. Whichever process asks first creates it.
    pub async fn shared_secret(&self, name: &'static str) -> Result<String, Error> {
        self.keep_setting(name, &new_secret("")).await
    }

    /// The value last stored by [`Control::remember`] under a name.
    pub async fn remembered(&self, name: &'static str) -> Result<Option<String>, Error> {
        let row: Option<(String,)> = self.fetch_optional(READ, vec![name.into()]).await?;
        Ok(row.map(|(value,)| value))
    }

    /// Stores a value under a name, in place of any earlier one.
    pub async fn remember(&self, name: &'static str, value: &str) -> Result<(), Error> {
        self.execute(WRITE, vec![name.into(), value.into()]).await.map(drop)
    }

    /// Stores a value unless one is stored already, and returns the stored one.
    pub(crate) async fn keep_setting(
        &self,
        name: &'static str,
        value: &str,
    ) -> Result<String, Error> {
        // Read back, because of several processes at their first start only one has stored its value.
        self.execute(KEEP, vec![name.into(), value.into()]).await?;
        self.remembered(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the stored setting {name} is gone"))
        })
    }
}

impl Tx {
    pub(crate) async fn setting(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        let row: Option<(String,)> = self.fetch_optional(READ, vec![name.into()]).await?;
        Ok(row.map(|(value,)| value))
    }

    pub(crate) async fn set_setting(
        &mut self,
        name: &'static str,
        value: &str,
    ) -> Result<(), Error> {
        self.execute(WRITE, vec![name.into(), value.into()]).await.map(drop)
    }

    /// Stores a value unless one is stored already. Returns whether it stored it.
    pub(crate) async fn claim_setting(
        &mut self,
        name: &'static str,
        value: &str,
    ) -> Result<bool, Error> {
        Ok(self.execute(KEEP, vec![name.into(), value.into()]).await? == 1)
    }
}

#[cfg(test)]
mod tests;
