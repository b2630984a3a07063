//! What became of an import's rows: asked of the stream, which alone knows what is new.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_log::{Entry, LogTopic};
use acuvim_schemas::{
    Position,
    api::{ImportRefusal, Imported},
    problem::Code,
};
use serde_json::Value;

use super::{batch::Full, read::REFUSALS};
use crate::{App, problem::ApiError, sql::internal_rows};

/// Rows whose fate is asked for at once.
const ASK: usize = 50_000;

/// How long the stream may take to read what was appended.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Appends records, and finds out what became of their rows.
#[derive(Default)]
pub(crate) struct Outcomes {
    /// The rows of each record whose fate is not known yet, by its place.
    sent: BTreeMap<(u32, i64), Vec<u64>>,
    waiting: usize,
    stored: u64,
    duplicates: u64,
    refused: u64,
    refusals: Vec<ImportRefusal>,
}

impl Outcomes {
    /// Appends records.
    pub async fn append(&mut self, app: &Arc<App>, records: Vec<Full>) -> Result<(), ApiError> {
        let (mut entries, mut rows) = (Vec::new(), Vec::new());
        for Full { partition, entry, rows: of } in records {
            entries.push((partition, entry));
            rows.push(of);
        }
        let places = self.try_append(app, entries).await?;
        for (Position { partition, offset }, rows) in places.into_iter().zip(rows) {
            self.waiting += rows.len();
            self.sent.insert((partition, offset), rows);
        }
        if self.waiting >= ASK { self.settle(app).await } else { Ok(()) }
    }

    async fn try_append(
        &self,
        app: &App,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, ApiError> {
        app.parts.log.append(LogTopic::Uplink, entries).await.map_err(|error| {
            tracing::info!(%error, "an import met a log that is away");
            let detail =
                "the log is away; send the import again: what is stored already stays once";
            ApiError::new(Code::Unavailable, detail)
        })
    }

    /// Finds out about all rows, and adds that to what was read.
    pub async fn finish(mut self, app: &Arc<App>, done: &mut Imported) -> Result<(), ApiError> {
        self.settle(app).await?;
        (done.stored, done.duplicates) = (self.stored, self.duplicates);
        done.refused += self.refused;
        done.refusals.extend(self.refusals);
        done.refusals.sort_by_key(|refusal| refusal.row);
        done.refusals.truncate(REFUSALS);
        Ok(())
    }

    /// Waits until the stream has read what was sent, and asks what the tables have of it.
    async fn settle(&mut self, app: &Arc<App>) -> Result<(), ApiError> {
        let sent = std::mem::take(&mut self.sent);
        let mut spans: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
        for (partition, offset) in sent.keys() {
            let span = spans.entry(*partition).or_insert((*offset, *offset));
            span.1 = *offset;
        }
        for (partition, span) in spans {
            wait_for(app, partition, span.1).await?;
            let stored = self.stored_of(app, partition, span).await?;
            let lost = self.lost_of(app, partition, span, &sent).await?;
            let theirs = sent.range((partition, span.0)..=(partition, span.1));
            for ((_, offset), rows) in theirs {
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
    async fn stored_of(
        &self,
        app: &Arc<App>,
        partition: u32,
        span: (i64, i64),
    ) -> Result<HashMap<i64, u64>, ApiError> {
        let of = within(app, partition, span);
        let asked = format!(r#"SELECT "offset", count(*) FROM telemetry WHERE {of} GROUP BY 1"#);
        let rows = internal_rows(app, asked).await?;
        let count = |row: &Vec<Value>| {
            Some((row.first()?.as_i64()?, u64::try_from(row.get(1)?.as_i64()?).ok()?))
        };
        Ok(rows.iter().filter_map(count).collect())
    }

    /// How many rows of each record are dead letters all the same, and notes which.
    async fn lost_of(
        &mut self,
        app: &Arc<App>,
        partition: u32,
        span: (i64, i64),
        sent: &BTreeMap<(u32, i64), Vec<u64>>,
    ) -> Result<HashMap<i64, u64>, ApiError> {
        let of = within(app, partition, span);
        let asked =
            format!(r#"SELECT "offset", item, reason, detail FROM dead_letters WHERE {of}"#);
        let mut lost = HashMap::new();
        for row in internal_rows(app, asked).await? {
            let [offset, item, reason, detail] = [0, 1, 2, 3].map(|at| row.get(at));
            let Some(offset) = offset.and_then(Value::as_i64) else { continue };
            let Some(rows) = sent.get(&(partition, offset)) else { continue };
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
}

/// Rows of a partition's records from one offset to another.
fn within(app: &App, partition: u32, (first, last): (i64, i64)) -> String {
    let epoch = app.lake().epoch();
    format!(
        r#"epoch = {epoch} AND "partition" = {partition} AND "offset" BETWEEN {first} AND {last}"#
    )
}

/// Waits until the stream has read an offset.
async fn wait_for(app: &App, partition: u32, offset: i64) -> Result<(), ApiError> {
    let begun = Instant::now();
    let lake = app.lake();
    loop {
        let read = lake.tail().next_offsets();
        let read = usize::try_from(partition).ok().and_then(|p| read.get(p).copied().flatten());
        if read.is_some_and(|next| next > offset) || lake.next_offset(partition) > offset {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let detail = "the log has the rows, and the stream is behind with reading it: what became \
                of them is not known yet. Send the import again later: what is stored stays once";
            return Err(ApiError::new(Code::Unavailable, detail));
        }
        tokio::time::sleep(LOOK).await;
    }
}
