//! Leases: jobs that must run once, held by one process at a time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{Control, Error};

/// A lease that was got. Every write of its job carries the epoch, which grows with each holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Counts the holders.
    pub epoch: i64,
    /// Until when it is held.
    pub until: DateTime<Utc>,
}

impl Control {
    /// Gets a lease, or goes on holding it; none while another holder's has not run out.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn hold_lease(
        &self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
        length: TimeDelta,
    ) -> Result<Option<Lease>, Error> {
        let until = now + length;
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 0, $3)
             ON CONFLICT (name) DO NOTHING",
            vec![name.into(), holder.into(), now.into()],
        )
        .await?;
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

    /// Gives a lease up, so that another need not wait until it runs out.
    ///
    /// # Errors
    /// When the database can't be asked; it then runs out by itself.
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

    /// The names of leases that begin so and are held at present.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn held_leases(
        &self,
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self
            .fetch_all("SELECT name FROM leases WHERE until > $1 ORDER BY name", vec![now.into()])
            .await?;
        Ok(rows.into_iter().map(|(name,)| name).filter(|name| name.starts_with(prefix)).collect())
    }
}
