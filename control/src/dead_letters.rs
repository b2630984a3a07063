//! What control keeps about dead letters: which were replayed, and the boots whose readings could be
//! replayed once the time of the boot is known.

use std::collections::HashSet;

use acuvim_model::Scope;
use acuvim_wire::{Identity, Micros};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    db::{Control, Tx},
    error::Error,
    scope::within,
    statement::Statement,
};

/// The outcome of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// The message is stored.
    Stored,
    /// The message was stored before.
    Duplicate,
    /// The message is a dead letter again.
    DeadLetter,
}

impl ReplayOutcome {
    /// All outcomes. A replay without one is still pending.
    const ALL: [Self; 3] = [Self::Stored, Self::Duplicate, Self::DeadLetter];

    /// The name in the database and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// After this a pending replay counts as lost, and can be claimed again. A replay takes seconds, unless the
/// process ends in between.
const LOST_AFTER: TimeDelta = TimeDelta::minutes(10);

/// A boot with readings from before its clock was set, whose beginning has become known since.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Clockless {
    /// The id of the device.
    pub device_id: String,
    /// The boot count.
    pub boot: i64,
    /// When the newest of its dead letters arrived.
    pub newest_at: DateTime<Utc>,
    /// When the boot began, in microseconds.
    pub started: i64,
}

/// A replay of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ReplayOf {
    /// The identity of the dead letter.
    pub identity: String,
    /// The id of the device.
    pub device_id: String,
    /// When it was replayed.
    pub at: DateTime<Utc>,
    /// The name of the user or key that replayed it.
    pub replayed_by: String,
    /// The outcome: `pending`, or a name of [`ReplayOutcome`].
    pub outcome: String,
}

/// What became known about dead letters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadLetterUpdates {
    /// Boots whose beginning became known: the device, the boot count, and the beginning.
    pub anchors: Vec<(String, i64, Micros)>,
    /// Boots with readings without a time: the device, the boot count, and when the reading arrived.
    pub clockless: Vec<(String, i64, DateTime<Utc>)>,
    /// Outcomes of replays.
    pub replayed: Vec<(Identity, ReplayOutcome)>,
}

impl DeadLetterUpdates {
    /// Whether nothing became known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.anchors.is_empty() && self.clockless.is_empty() && self.replayed.is_empty()
    }
}

pub(crate) async fn apply_dead_letters(
    tx: &mut Tx,
    updates: &DeadLetterUpdates,
) -> Result<(), Error> {
    for (device_id, boot, started) in &updates.anchors {
        // The first value stays: readings with times from it may be stored already, and must not move
        // when the clock is corrected later.
        tx.execute(
            "INSERT INTO anchors (device_id, boot, started) VALUES ($1, $2, $3)
             ON CONFLICT (device_id, boot) DO NOTHING",
            vec![device_id.into(), (*boot).into(), (*started).into()],
        )
        .await?;
    }
    for (device_id, boot, at) in &updates.clockless {
        tx.execute(
            "INSERT INTO clockless (device_id, boot, newest_at) VALUES ($1, $2, $3)
             ON CONFLICT (device_id, boot) DO UPDATE SET newest_at = excluded.newest_at",
            vec![device_id.into(), (*boot).into(), (*at).into()],
        )
        .await?;
    }
    for (letter, outcome) in &updates.replayed {
        tx.execute(
            "UPDATE replays SET outcome = $1 WHERE identity = $2",
            vec![outcome.as_str().into(), letter.to_string().into()],
        )
        .await?;
    }
    Ok(())
}

impl Control {
    /// Boots whose dead letters can be replayed, because their beginning has become known.
    pub async fn clockless(&self, limit: i64) -> Result<Vec<Clockless>, Error> {
        self.fetch_all(
            "SELECT c.device_id, c.boot, c.newest_at, a.started FROM clockless c
             JOIN anchors a ON a.device_id = c.device_id AND a.boot = c.boot
             ORDER BY c.newest_at LIMIT $1",
            vec![limit.into()],
        )
        .await
    }

    /// Notes that all dead letters of a boot were replayed, unless another arrived since.
    pub async fn settle_clockless(&self, boot: &Clockless) -> Result<(), Error> {
        self.execute(
            "DELETE FROM clockless WHERE device_id = $1 AND boot = $2 AND newest_at = $3",
            vec![boot.device_id.as_str().into(), boot.boot.into(), boot.newest_at.into()],
        )
        .await
        .map(|_| ())
    }

    /// Claims dead letters for a replay, and returns those that the caller got. Others are pending
    /// already, or were replayed; one that failed again is a new dead letter.
    pub async fn claim_replays(
        &self,
        letters: &[(Identity, String)],
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<HashSet<Identity>, Error> {
        let mut tx = self.begin().await?;
        let mut claimed = HashSet::with_capacity(letters.len());
        for (letter, device_id) in letters {
            // One statement claims and takes over, so that of two callers one gets the letter.
            let taken = tx
                .execute(
                    "INSERT INTO replays (identity, device_id, at, replayed_by, outcome)
                     VALUES ($1, $2, $3, $4, 'pending')
                     ON CONFLICT (identity) DO UPDATE
                         SET at = excluded.at, replayed_by = excluded.replayed_by,
                             outcome = excluded.outcome
                         WHERE replays.outcome = 'pending' AND replays.at < $5",
                    vec![
                        letter.to_string().into(),
                        device_id.as_str().into(),
                        now.into(),
                        by.into(),
                        (now - LOST_AFTER).into(),
                    ],
                )
                .await?;
            if taken == 1 {
                claimed.insert(*letter);
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// Replays, newest first.
    pub async fn replays(&self, scope: Option<&Scope>, limit: i64) -> Result<Vec<ReplayOf>, Error> {
        let mut all = Statement::new(
            "SELECT r.identity, r.device_id, r.at, r.replayed_by, r.outcome FROM replays r
             LEFT JOIN devices d ON d.device_id = r.device_id WHERE 1 = 1",
        );
        within(&mut all, scope);
        all.push("ORDER BY r.at DESC LIMIT ?", [limit.into()]);
        self.select(all).await
    }

    /// The number of messages of a device that were replayed in a time range and are stored.
    pub async fn replays_of(
        &self,
        device_id: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) FROM replays WHERE device_id = $1 AND outcome = 'stored'
             AND at >= $2 AND at < $3";
        self.count(sql, vec![device_id.into(), from.into(), to.into()]).await
    }

    /// The number of these dead letters whose replay has an outcome.
    pub async fn replayed(&self, letters: &[Identity]) -> Result<i64, Error> {
        let mut count = 0;
        for some in letters.chunks(500) {
            let mut find = Statement::new("SELECT COUNT(*) FROM replays WHERE outcome IN");
            find.push_list(ReplayOutcome::ALL.map(|outcome| outcome.as_str().into()));
            find.push("AND identity IN", []);
            find.push_list(some.iter().map(|letter| letter.to_string().into()));
            let found: Option<(i64,)> = self.select_one(find).await?;
            count += found.map_or(0, |(n,)| n);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
