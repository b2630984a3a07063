//! What is known of dead letters beside the lake: which were brought again, and the boots whose
//! readings wait for a clock.

use std::collections::HashSet;

use acuvim_schemas::{Identity, Micros, api::Scope};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{Control, Error, db::Tx, scope::within, text::Statement};

/// What a replay came to, of those that are not on their way any more.
const SETTLED: [&str; 3] = ["stored", "duplicate", "dead_letter"];

/// How long a replay may be on its way until it counts as lost.
const LOST_AFTER: TimeDelta = TimeDelta::minutes(10);

/// A boot without a clock whose beginning has become known.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Clockless {
    /// Whose.
    pub device_id: String,
    /// Which boot.
    pub boot: i64,
    /// When the newest of its dead letters came.
    pub newest_at: DateTime<Utc>,
    /// When it began, in microseconds.
    pub started: i64,
}

/// A dead letter that was brought again.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ReplayOf {
    /// Its identity.
    pub identity: String,
    /// Whose.
    pub device_id: String,
    /// When it was brought again.
    pub at: DateTime<Utc>,
    /// By whom.
    pub replayed_by: String,
    /// What became of it: `pending`, `stored`, `duplicate` or `dead_letter`.
    pub outcome: String,
}

/// What the stream learnt of dead letters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LetterNotes {
    /// Boots that have a clock now: the device, the boot, and when it began.
    pub anchors: Vec<(String, i64, Micros)>,
    /// Boots of which a reading without a time came, and when.
    pub clockless: Vec<(String, i64, DateTime<Utc>)>,
    /// What replays came to: `stored`, `duplicate` or `dead_letter`.
    pub replayed: Vec<(Identity, &'static str)>,
}

impl LetterNotes {
    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.anchors.is_empty() && self.clockless.is_empty() && self.replayed.is_empty()
    }
}

pub(crate) async fn note_letters(tx: &mut Tx, notes: &LetterNotes) -> Result<(), Error> {
    for (device_id, boot, started) in &notes.anchors {
        // The first one holds for ever: a clock that is corrected later moves nothing.
        tx.execute(
            "INSERT INTO anchors (device_id, boot, started) VALUES ($1, $2, $3)
             ON CONFLICT (device_id, boot) DO NOTHING",
            vec![device_id.into(), (*boot).into(), (*started).into()],
        )
        .await?;
    }
    for (device_id, boot, at) in &notes.clockless {
        tx.execute(
            "INSERT INTO clockless (device_id, boot, newest_at) VALUES ($1, $2, $3)
             ON CONFLICT (device_id, boot) DO UPDATE SET newest_at = excluded.newest_at",
            vec![device_id.into(), (*boot).into(), (*at).into()],
        )
        .await?;
    }
    for (letter, outcome) in &notes.replayed {
        tx.execute(
            "UPDATE replays SET outcome = $1 WHERE identity = $2",
            vec![(*outcome).into(), letter.to_string().into()],
        )
        .await?;
    }
    Ok(())
}

impl Control {
    /// Boots without a clock whose beginning has become known.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn clockless(&self, limit: i64) -> Result<Vec<Clockless>, Error> {
        self.fetch_all(
            "SELECT c.device_id, c.boot, c.newest_at, a.started FROM clockless c
             JOIN anchors a ON a.device_id = c.device_id AND a.boot = c.boot
             ORDER BY c.newest_at LIMIT $1",
            vec![limit.into()],
        )
        .await
    }

    /// Notes that all dead letters of a boot were brought again, unless another came since.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn settle_clockless(&self, boot: &Clockless) -> Result<(), Error> {
        self.execute(
            "DELETE FROM clockless WHERE device_id = $1 AND boot = $2 AND newest_at = $3",
            vec![boot.device_id.as_str().into(), boot.boot.into(), boot.newest_at.into()],
        )
        .await
        .map(|_| ())
    }

    /// Of these dead letters, those that are to be brought again now: not those that are stored, on
    /// their way, or dead again, which is another dead letter. They count as on their way from now on.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn claim_replays(
        &self,
        letters: &[(Identity, String)],
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<HashSet<Identity>, Error> {
        let mut tx = self.begin().await?;
        let mut claimed = HashSet::with_capacity(letters.len());
        for (letter, device_id) in letters {
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

    /// Dead letters that were brought again, the newest first.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn replays(&self, scope: Option<&Scope>, limit: i64) -> Result<Vec<ReplayOf>, Error> {
        let mut all = Statement::new(
            "SELECT r.identity, r.device_id, r.at, r.replayed_by, r.outcome FROM replays r
             LEFT JOIN devices d ON d.device_id = r.device_id WHERE 1 = 1",
        );
        within(&mut all, scope);
        all.push("ORDER BY r.at DESC LIMIT ?", [limit.into()]);
        let (text, values) = all.into_parts();
        self.fetch_all(text, values).await
    }

    /// How many messages of a device were brought again within a time and are stored.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn replays_of(
        &self,
        device_id: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<i64, Error> {
        let count: Option<(i64,)> = self
            .fetch_optional(
                "SELECT COUNT(*) FROM replays WHERE device_id = $1 AND outcome = 'stored'
                     AND at >= $2 AND at < $3",
                vec![device_id.into(), from.into(), to.into()],
            )
            .await?;
        Ok(count.map_or(0, |(n,)| n))
    }

    /// Of how many of these dead letters it is known what their replay came to.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn replayed(&self, letters: &[Identity]) -> Result<i64, Error> {
        let mut count = 0;
        for some in letters.chunks(500) {
            let mut find = Statement::new("SELECT COUNT(*) FROM replays WHERE outcome IN");
            find.push_list(SETTLED.into_iter().map(Into::into));
            find.push("AND identity IN", []);
            find.push_list(some.iter().map(|letter| letter.to_string().into()));
            let (text, values) = find.into_parts();
            let found: Option<(i64,)> = self.fetch_optional(text, values).await?;
            count += found.map_or(0, |(n,)| n);
        }
        Ok(count)
    }
}
