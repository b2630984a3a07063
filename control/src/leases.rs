//! Leases: each is held by one process at a time, and guards a job that must not run twice.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    db::{Control, Tx},
    error::Error,
};

/// A held lease. Each write of its job checks the epoch in the same transaction, so that a holder which
/// lost the lease while it was paused can't write any more (a fencing token).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each acquisition, not with renewals, so that it also tells holders apart.
    pub epoch: i64,
    /// When it expires unless it is renewed.
    pub until: DateTime<Utc>,
}

impl Control {
    /// Acquires or renews a lease. `None` while another process holds it.
    pub async fn hold_lease(
        &self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
        length: TimeDelta,
    ) -> Result<Option<Lease>, Error> {
        let until = now + length;
        let mut tx = self.begin().await?;
        // A new name begins as a lease that has just expired, so that the statement below is the only one
        // which gives leases out.
        tx.execute(
            "INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 0, $3)
             ON CONFLICT (name) DO NOTHING",
            vec![name.into(), holder.into(), now.into()],
        )
        .await?;
        // A holder whose own lease has expired gets a new epoch too, because another process may have
        // held it in between.
        let held = tx
            .execute(
                "UPDATE leases SET until = $1,
                     epoch = CASE WHEN holder = $2 AND until > $3 THEN epoch ELSE epoch + 1 END,
                     holder = $2
                 WHERE name = $4 AND (holder = $2 OR until <= $3)",
                vec![until.into(), holder.into(), now.into(), name.into()],
            )
            .await?;
        if held == 0 {
            return Ok(None);
        }
        let rows: Vec<(i64,)> =
            tx.fetch_all("SELECT epoch FROM leases WHERE name = $1", vec![name.into()]).await?;
        tx.commit().await?;
        Ok(rows.first().map(|(epoch,)| Lease { epoch: *epoch, until }))
    }

    /// Releases a lease early, so that another process need not wait for its expiry.
    pub async fn drop_lease(
        &self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.execute(
            "UPDATE leases SET until = $1 WHERE name = $2 AND holder = $3 AND until > $1",
            vec![now.into(), name.into(), holder.into()],
        )
        .await
        .map(|_| ())
    }

    /// The names of all held leases with a prefix.
    pub async fn held_leases(
        &self,
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self
            .fetch_all("SELECT name FROM leases WHERE until > $1 ORDER BY name", vec![now.into()])
            .await?;
        // Not with LIKE, because `_` and `%` would be patterns in it.
        Ok(rows.into_iter().map(|(name,)| name).filter(|name| name.starts_with(prefix)).collect())
    }
}

impl Tx {
    /// Whether the lease is still held, at its epoch. Locks its row until the end of the transaction, so
    /// that no other process can take it over in between.
    pub(crate) async fn holds(
        &mut self,
        name: &str,
        lease: Lease,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let held = self
            .execute(
                "UPDATE leases SET epoch = epoch WHERE name = $1 AND epoch = $2 AND until > $3",
                vec![name.into(), lease.epoch.into(), now.into()],
            )
            .await?;
        Ok(held == 1)
    }
}

#[cfg(test)]
mod tests;
