//! One partition's worker: log to rows to tail, and what records say of devices to control.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{Applied, Changes, OffsetMove};
use acuvim_lakehouse::{Dedup, DedupLimits, Rows, TailBatch, Wanted};
use acuvim_log::{Batch, Bounds, ErrorKind, LogTopic, ReadLimit};
use acuvim_schemas::{Micros, device::partition_of};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Fatal, Parts, ProcessorOptions,
    decode::{Decoded, Owed, StreamDecoder},
    state::StateSender,
};

/// What one read brings at most: enough to be worth a batch, little enough to be quick, and to fit
/// in memory even as the shortest of readings.
const READ: ReadLimit =
    ReadLimit { records: 4096, bytes: 2 << 20, wait: Duration::from_millis(200) };

/// After a read of fewer bytes than this, more are given a moment to gather: a batch costs the same
/// whether it holds one row or a hundred.
const GATHER_BELOW: usize = 256 << 10;

/// That moment: small beside the time that a reading may take to be visible.
const GATHER: Duration = Duration::from_millis(25);

/// How often control learns of progress that changes nothing else.
const CONTROL_INTERVAL: Duration = Duration::from_secs(5);

/// The cursor that tells the log what control has got.
const CURSOR: &str = "control";

/// How long to wait before asking a component again that is away.
const AWAY: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Worker {
    partition: u32,
    parts: Parts,
    options: Arc<ProcessorOptions>,
    state: StateSender,
    decoder: StreamDecoder,
    dedup: Dedup,
    known: HashSet<String>,
    /// The next offset as control has it.
    control_at: Option<i64>,
    /// What control has yet to be told.
    pending: Changes,
    told: Instant,
}

impl Worker {
    pub(crate) fn new(
        partition: u32,
        options: &Arc<ProcessorOptions>,
        parts: &Parts,
        state: StateSender,
    ) -> Self {
        let aliases = Arc::clone(&options.aliases);
        let newest = parts.lake.newest().clone();
        Self {
            partition,
            parts: parts.clone(),
            options: Arc::clone(options),
            state,
            decoder: StreamDecoder::new(partition, parts.epoch, options.limits, aliases),
            dedup: Dedup::new(newest, DedupLimits::default()),
            known: HashSet::new(),
            control_at: None,
            pending: Changes::default(),
            told: Instant::now(),
        }
    }

    /// Works until told to stop and done with what the log has by then, until told to give up, or
    /// until it can't go on.
    pub(crate) async fn run(mut self, stop: CancellationToken, give_up: CancellationToken) {
        let state = self.state.clone();
        // Given up in the middle it owes nothing: the next start reads from the lower position.
        if let Some(Err(fatal)) = give_up.run_until_cancelled(self.work(stop)).await {
            state.fatal(fatal);
        }
    }

    async fn work(&mut self, stop: CancellationToken) -> Result<(), Fatal> {
        let mut next = self.begin().await?;
        let mut end_at_start = Some(self.log_bounds().await?.end);
        let mut end_at_stop = None;
        loop {
            if end_at_start.is_some_and(|end| next >= end) {
                end_at_start = None;
                self.state.caught_up();
            }
            if stop.is_cancelled() {
                let end = match end_at_stop {
                    Some(end) => end,
                    None => *end_at_stop.insert(self.log_bounds().await?.end),
                };
                if next >= end {
                    return self.tell_control(next).await;
                }
            }
            self.wait_for_room().await;
            let batch = self.read(next).await?;
            if batch.entries.is_empty() {
                if self.told.elapsed() >= CONTROL_INTERVAL {
                    self.tell_control(next).await?;
                }
                continue;
            }
            let bytes: usize = batch.entries.iter().map(|(_, entry)| entry.size()).sum();
            let few = bytes < GATHER_BELOW;
            next = batch.next;
            self.process(batch).await?;
            if few {
                tokio::time::sleep(GATHER).await;
            }
            if !self.pending.is_empty() || self.told.elapsed() >= CONTROL_INTERVAL {
                self.tell_control(next).await?;
            }
        }
    }

    /// Learns where both sinks are; answers with the lower of their positions.
    async fn begin(&mut self) -> Result<i64, Fatal> {
        loop {
            let asked = async {
                let at = self.parts.control.offset(self.parts.epoch, self.partition).await?;
                Ok::<_, acuvim_control::Error>((at, self.parts.control.device_ids().await?))
            };
            match asked.await {
                Ok((at, devices)) => {
                    let partitions = self.parts.log.partitions();
                    let ours =
                        |d: &String| partition_of(d.as_bytes(), partitions) == self.partition;
                    self.known = devices.into_iter().filter(ours).collect();
                    self.state.control(None);
                    return self.begin_at(at).await;
                }
                Err(error) => self.control_away(&error).await?,
            }
        }
    }

    /// Rows that the log no longer has would be lost; what control missed of it (a database that was
    /// replaced) is only what devices said of themselves.
    async fn begin_at(&mut self, control_at: Option<i64>) -> Result<i64, Fatal> {
        let start = self.log_bounds().await?.start;
        let next = control_at.unwrap_or(0);
        if next < start {
            let partition = self.partition;
            tracing::warn!(partition, next, start, "control has missed records that are gone");
        }
        self.control_at = control_at;
        self.note_control(next.max(start)).await;
        Ok(self.rows_from().min(next.max(start)))
    }

    /// Tells the log's retention; behind by a little, it keeps more than it must.
    async fn note_control(&self, next: i64) {
        let log = &self.parts.log;
        if let Err(error) = log.set_cursor(CURSOR, LogTopic::Uplink, self.partition, next).await {
            tracing::debug!(%error, "the log's cursor was not noted");
        }
    }

    fn rows_from(&self) -> i64 {
        self.parts.lake.next_offset(self.partition)
    }

    async fn log_bounds(&self) -> Result<Bounds, Fatal> {
        let bounds = self.parts.log.bounds(LogTopic::Uplink, self.partition).await;
        bounds.map_err(|e| Fatal::Broken(e.to_string()))
    }

    async fn read(&self, from: i64) -> Result<Batch, Fatal> {
        loop {
            match self.parts.log.read(LogTopic::Uplink, self.partition, from, READ).await {
                Ok(batch) => {
                    self.state.log(None);
                    return Ok(batch);
                }
                Err(error) => match error.kind() {
                    ErrorKind::OutOfRange => return Err(Fatal::Lost(error.to_string())),
                    ErrorKind::Corrupt => return Err(Fatal::Broken(error.to_string())),
                    ErrorKind::Unavailable | ErrorKind::Refused | ErrorKind::Setup => {
                        self.state.log(Some(error.to_string()));
                        tokio::time::sleep(AWAY).await;
                    }
                },
            }
        }
    }

    /// Decodes a batch, drops its duplicates, and puts the rest into the tail.
    async fn process(&mut self, batch: Batch) -> Result<(), Fatal> {
        let rows_from = self.tail_next().unwrap_or_else(|| self.rows_from());
        let owed = Owed { rows_from, changes_from: self.control_at.unwrap_or(0) };
        let (next, count) = (batch.next, batch.entries.len());
        let known = |device: &str| self.known.contains(device);
        let decoded =
            tokio::task::block_in_place(|| self.decoder.decode(batch.entries, owed, &known))
                .map_err(|e| Fatal::Broken(e.to_string()))?;
        let Decoded { rows, changes, no_known_readings } = decoded;
        if next > rows_from {
            let before = rows.telemetry.num_rows();
            let rows = self.without_duplicates(rows).await?;
            let duplicates = before - rows.telemetry.num_rows();
            metrics::counter!("acuvim_duplicates_total").increment(duplicates as u64);
            metrics::counter!("acuvim_dead_letters_total")
                .increment(rows.dead_letters.num_rows() as u64);
            self.parts.lake.tail().push(self.partition, TailBatch { from: rows_from, next, rows });
        }
        metrics::counter!("acuvim_records_processed_total").increment(count as u64);
        metrics::counter!("acuvim_no_known_readings_total").increment(no_known_readings as u64);
        self.pending.seen.extend(changes.seen);
        self.pending.registered.extend(changes.registered);
        Ok(())
    }

    async fn without_duplicates(&mut self, rows: Rows) -> Result<Rows, Fatal> {
        if rows.telemetry.num_rows() == 0 || !self.options.dedup {
            return Ok(rows);
        }
        let broken = |e: arrow::error::ArrowError| Fatal::Broken(e.to_string());
        let readings = pairs(&rows.telemetry)?;
        let wanted = self.dedup.wanted(readings.iter().copied());
        if !wanted.is_empty() {
            for (day, times) in self.stored_times(&wanted).await? {
                self.dedup.load(day, times);
            }
        }
        let new = self.dedup.judge(readings.into_iter());
        if new.iter().all(|new| *new) {
            return Ok(rows);
        }
        let telemetry = filter_record_batch(&rows.telemetry, &BooleanArray::from(new));
        Ok(Rows { telemetry: telemetry.map_err(broken)?, ..rows })
    }

    async fn stored_times(
        &self,
        wanted: &HashSet<Wanted>,
    ) -> Result<HashMap<Wanted, Vec<Micros>>, Fatal> {
        loop {
            match self.parts.lake.stored_times(wanted).await {
                Ok(times) => {
                    self.state.dedup(None);
                    return Ok(times);
                }
                Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                    return Err(Fatal::Broken(error.to_string()));
                }
                Err(error) => {
                    self.state.dedup(Some(error.to_string()));
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }

    /// Commits to control what it has yet to know, together with the offset.
    async fn tell_control(&mut self, next: i64) -> Result<(), Fatal> {
        if self.control_at.is_some_and(|at| next <= at) {
            self.told = Instant::now();
            return Ok(());
        }
        let (expected, mut failed) = (self.control_at, false);
        let mut changes = std::mem::take(&mut self.pending);
        changes.moves = vec![OffsetMove { partition: self.partition, expected, next }];
        loop {
            match self.parts.control.apply(self.parts.epoch, &changes).await {
                Ok(Applied::Done) => break,
                Ok(Applied::Overtaken { partition }) => {
                    // A commit that failed before may have been made all the same.
                    let at = self.parts.control.offset(self.parts.epoch, partition).await;
                    if failed && at.is_ok_and(|at| at == Some(next)) {
                        break;
                    }
                    return Err(Fatal::Overtaken(partition));
                }
                Err(error) => {
                    failed = true;
                    self.control_away(&error).await?;
                }
            }
        }
        if self.told.elapsed() >= CONTROL_INTERVAL {
            self.note_control(next).await;
        }
        self.state.control(None);
        self.known.extend(changes.seen.into_iter().map(|(device, _)| device));
        self.known.extend(changes.registered.into_iter().map(|r| r.registration.device_id));
        self.control_at = Some(next);
        self.told = Instant::now();
        Ok(())
    }

    async fn control_away(&self, error: &acuvim_control::Error) -> Result<(), Fatal> {
        if error.kind() == acuvim_control::ErrorKind::Internal {
            return Err(Fatal::Broken(error.to_string()));
        }
        self.state.control(Some(error.to_string()));
        tokio::time::sleep(AWAY).await;
        Ok(())
    }

    async fn wait_for_room(&self) {
        let mut size = self.parts.lake.tail().size();
        let max = self.options.max_tail_bytes;
        if size.borrow_and_update().bytes < max {
            return;
        }
        self.state.tail_full(true);
        let _ = size.wait_for(|size| size.bytes < max).await;
        self.state.tail_full(false);
    }

    fn tail_next(&self) -> Option<i64> {
        let next = self.parts.lake.tail().next_offsets();
        usize::try_from(self.partition).ok().and_then(|p| next.get(p).copied().flatten())
    }
}

fn pairs(rows: &RecordBatch) -> Result<Vec<(&str, Micros)>, Fatal> {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return Err(Fatal::Broken("decoded rows have no device_id or ts".to_owned()));
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    Ok(devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()).collect())
}
