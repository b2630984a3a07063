//! The outcome of an import's rows. The tables are queried for it once the stream has read the records: only
//! the stream's dedup can tell which readings are new.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_log::{Log, LogTopic};
use acuvim_model::{ImportRefusal, Imported, problem::Code};
use acuvim_query_sql::{Sql, readings::rows_of};
use acuvim_wire::Position;
use serde_json::Value;

use super::{batch::FullRecord, read::REFUSALS};
use crate::problem::ApiError;

/// Rows whose outcome is asked for at a time.
const ASK: usize = 50_000;

/// How long the stream may take to read what was appended.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is checked whether it has.
const POLL: Duration = Duration::from_millis(20);

/// Appends records, and finds out the outcome of their rows.
pub(crate) struct Outcomes {
    log: Arc<dyn Log>,
    sql: Sql,
    /// The rows of each record whose outcome is not known yet, by partition and offset.
    sent: BTreeMap<u32, BTreeMap<i64, Vec<u64>>>,
    waiting: usize,
    stored: u64,
    duplicates: u64,
    refused: u64,
    refusals: Vec<ImportRefusal>,
}

/// Records of one partition.
#[derive(Debug, Clone)]
struct Span {
    partition: u32,
    offsets: RangeInclusive<i64>,
}

impl Outcomes {
    pub fn new(log: Arc<dyn Log>, sql: Sql) -> Self {
        Self {
            log,
            sql,
            sent: BTreeMap::new(),
            waiting: 0,
            stored: 0,
            duplicates: 0,
            refused: 0,
            refusals: Vec::new(),
        }
    }

    /// Appends records to the log, and remembers the rows of each.
    pub async fn append(&mut self, records: Vec<FullRecord>) -> Result<(), ApiError> {
        let (mut entries, mut rows) = (Vec::new(), Vec::new());
        for FullRecord { partition, entry, rows: of } in records {
            entries.push((partition, entry));
            rows.push(of);
        }
        let positions = self.log.append(LogTopic::Uplink, entries).await.map_err(|error| {
            tracing::info!(%error, "an import could not reach the log");
            let detail =
                "the log is away; send the import again: what is stored already stays once";
            ApiError::new(Code::Unavailable, detail)
        })?;
        for (Position { partition, offset }, rows) in positions.into_iter().zip(rows) {
            self.waiting += rows.len();
            self.sent.entry(partition).or_default().insert(offset, rows);
        }
        // Settled from time to time, so that a large file does not keep the number of each of its rows in memory.
        if self.waiting >= ASK { self.settle().await } else { Ok(()) }
    }

    /// Finds out the outcome of all rows, and adds it to what was read.
    pub async fn finish(mut self, done: &mut Imported) -> Result<(), ApiError> {
        self.settle().await?;
        (done.stored, done.duplicates) = (self.stored, self.duplicates);
        done.refused += self.refused;
        done.refusals.extend(self.refusals);
        // Refusals of the reader and of the stream come at different times.
        done.refusals.sort_by_key(|refusal| refusal.row);
        done.refusals.truncate(REFUSALS);
        Ok(())
    }

    /// Waits until the stream has read the records that were sent, and queries the tables for them.
    async fn settle(&mut self) -> Result<(), ApiError> {
        for (partition, sent) in std::mem::take(&mut self.sent) {
            let (Some((first, _)), Some((last, _))) =
                (sent.first_key_value(), sent.last_key_value())
            else {
                continue;
            };
            let span = Span { partition, offsets: *first..=*last };
            self.wait_for(partition, *last).await?;
            let stored = self.stored_of(&span).await?;
            let lost = self.lost_of(&span, &sent).await?;
            for (offset, rows) in &sent {
                let count = |of: &HashMap<i64, u64>| of.get(offset).copied().unwrap_or(0);
                let (stored, lost) = (count(&stored), count(&lost));
                self.stored += stored;
                self.duplicates += (rows.len() as u64).saturating_sub(stored + lost);
            }
        }
        self.waiting = 0;
        Ok(())
    }

    /// How many readings are stored of each record.
    async fn stored_of(&self, span: &Span) -> Result<HashMap<i64, u64>, ApiError> {
        let of = self.condition(span);
        let query = format!(r#"SELECT "offset", count(*) FROM telemetry WHERE {of} GROUP BY 1"#);
        let rows = rows_of(&self.sql, query).await?;
        let count = |row: &Vec<Value>| {
            Some((row.first()?.as_i64()?, u64::try_from(row.get(1)?.as_i64()?).ok()?))
        };
        Ok(rows.iter().filter_map(count).collect())
    }

    /// How many rows of each record have become dead letters, although they were checked; the first of them
    /// are listed with their reasons.
    async fn lost_of(
        &mut self,
        span: &Span,
        sent: &BTreeMap<i64, Vec<u64>>,
    ) -> Result<HashMap<i64, u64>, ApiError> {
        let of = self.condition(span);
        let query =
            format!(r#"SELECT "offset", item, reason, detail FROM dead_letters WHERE {of}"#);
        let mut lost = HashMap::new();
        for row in rows_of(&self.sql, query).await? {
            let [offset, item, reason, detail] = [0, 1, 2, 3].map(|at| row.get(at));
            let Some(offset) = offset.and_then(Value::as_i64) else { continue };
            let Some(rows) = sent.get(&offset) else { continue };
            let item = item.and_then(Value::as_u64).and_then(|item| usize::try_from(item).ok());
            let row = item.and_then(|item| rows.get(item)).copied().unwrap_or(0);
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
            let (reason, detail) = (text(reason).unwrap_or_default(), text(detail));
            let message = match detail {
                Some(detail) => format!("{reason}: {detail}"),
                None => reason,
            };
            *lost.entry(offset).or_insert(0) += 1;
            self.refused += 1;
            if self.refusals.len() < REFUSALS {
                self.refusals.push(ImportRefusal { row, message });
            }
        }
        Ok(lost)
    }

    /// The condition on rows of these records.
    fn condition(&self, span: &Span) -> String {
        let epoch = self.sql.lake().epoch();
        let (partition, first, last) = (span.partition, span.offsets.start(), span.offsets.end());
        format!(
            r#"epoch = {epoch} AND "partition" = {partition} AND "offset" BETWEEN {first} AND {last}"#
        )
    }

    /// Waits until the stream has read an offset.
    async fn wait_for(&self, partition: u32, offset: i64) -> Result<(), ApiError> {
        let begun = Instant::now();
        let lake = self.sql.lake();
        loop {
            let read = lake.tail().next_offsets();
            let read = usize::try_from(partition).ok().and_then(|p| read.get(p).copied().flatten());
            if read.is_some_and(|next| next > offset) || lake.next_offset(partition) > offset {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let detail = "the log has the rows, and the stream is behind with reading it: what \
                    became of them is not known yet. Send the import again later: what is stored stays once";
                return Err(ApiError::new(Code::Unavailable, detail));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
