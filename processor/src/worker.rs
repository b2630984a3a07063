//! One partition's worker: log to rows to tail, and what records say of devices to control.

mod changes;
mod count;
mod duplicates;
mod judge;
mod repairing;
mod teller;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::Changes;
use acuvim_lakehouse::{Dedup, DedupLimits, Rows, TailBatch};
use acuvim_log::{Batch, Bounds, ErrorKind, LogTopic, ReadLimit};
use acuvim_schemas::{Micros, tables::Table, time};
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use judge::Court;
use teller::Teller;

use crate::{
    Fatal, Parts, ProcessorOptions,
    decode::{Decoded, Owed, StreamDecoder},
    judging::JudgingWatch,
    state::StateSender,
    supervisor::Duty,
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

/// How long what devices say of themselves may wait for more of it: one transaction for many.
const NOTES_WAIT: Duration = Duration::from_millis(200);

/// How often control is told of a device's readings.
const TELL_OF_READINGS: Micros = 30 * time::SECOND;

/// How long a record may take from its `received_at` to the log.
const ON_ITS_WAY: Micros = 2 * time::SECOND;

/// How often control learns of progress that changes nothing else.
const CONTROL_INTERVAL: Duration = Duration::from_secs(5);

/// The cursor that tells the log what control has got.
const CURSOR: &str = "control";

/// How long to wait before asking a component again that is away.
const AWAY: Duration = Duration::from_millis(500);

/// How often a log is asked again that ends before the place where it was left.
const PATIENCE: u32 = 20;

/// How a worker's work ended.
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Another process has moved the partition on in control; what this one holds of it is old.
    Overtaken,
    /// It can't go on, and neither can the stream.
    Fatal(Fatal),
}

impl From<Fatal> for Ended {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

/// See the module.
pub(crate) struct Worker {
    partition: u32,
    duty: Duty,
    parts: Parts,
    options: Arc<ProcessorOptions>,
    state: StateSender,
    decoder: StreamDecoder,
    dedup: Dedup,
    heartbeat_dedup: Dedup,
    judging: JudgingWatch,
    /// The judgement, for a worker that writes.
    court: Option<Court>,
    /// When control was last told of a device's readings.
    told_of: HashMap<String, Micros>,
    /// The first offset whose changes control has not got.
    changes_from: i64,
    /// Tells control, for a worker that writes.
    teller: Option<Teller>,
    /// The next offset that the teller was told of.
    told_to: Option<i64>,
    /// What the teller has yet to be told.
    pending: Changes,
    /// Where the note on each device is in it.
    places: HashMap<String, usize>,
    told: Instant,
    /// Up to which time everything that came has been read.
    read_until: Micros,
    /// When commands were last looked at whose time may be over.
    checked: Instant,
}

impl Worker {
    pub(crate) fn new(
        partition: u32,
        duty: Duty,
        options: &Arc<ProcessorOptions>,
        parts: &Parts,
        state: StateSender,
        judging: JudgingWatch,
    ) -> Self {
        let aliases = Arc::clone(&options.aliases);
        let newest = parts.lake.newest().clone();
        let heartbeats = parts.lake.newest_heartbeats().clone();
        Self {
            partition,
            duty,
            parts: parts.clone(),
            options: Arc::clone(options),
            state,
            decoder: StreamDecoder::new(partition, parts.epoch, options.limits, aliases),
            dedup: Dedup::new(newest, DedupLimits::default()),
            heartbeat_dedup: Dedup::new(heartbeats, DedupLimits::default()),
            judging,
            court: None,
            told_of: HashMap::new(),
            changes_from: 0,
            teller: None,
            told_to: None,
            pending: Changes::default(),
            places: HashMap::new(),
            told: Instant::now(),
            read_until: 0,
            checked: Instant::now(),
        }
    }

    /// Works until told to stop and done with what the log has by then, until told to give up, or
    /// until it can't go on.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        give_up: CancellationToken,
    ) -> Ended {
        // Given up in the middle it owes nothing: the next start reads from the lower position.
        match give_up.run_until_cancelled(Box::pin(self.work(stop))).await {
            None | Some(Ok(())) => Ended::Stopped,
            Some(Err(ended)) => ended,
        }
    }

    async fn work(&mut self, stop: CancellationToken) -> Result<(), Ended> {
        let mut next = self.begin().await?;
        let mut end_at_start = Some(self.log_bounds().await?.end);
        let mut end_at_stop = None;
        loop {
            if end_at_start.is_some_and(|end| next >= end) {
                end_at_start = None;
                self.state.caught_up(self.partition);
            }
            if stop.is_cancelled() {
                if self.duty == Duty::Follow {
                    return Ok(());
                }
                let end = match end_at_stop {
                    Some(end) => end,
                    None => *end_at_stop.insert(self.log_bounds().await?.end),
                };
                if next >= end {
                    return self.finish_telling(next).await;
                }
            }
            self.wait_for_room().await;
            let Some(batch) = self.read(next).await? else {
                next = self.skip_lost(next).await?;
                continue;
            };
            self.renew_judging();
            self.check_silence(self.decoder.clock());
            if batch.entries.is_empty() {
                self.note_end(next).await?;
                if self.has_to_tell() {
                    self.tell_control(next).await?;
                }
                self.repair(next).await?;
                continue;
            }
            let bytes: usize = batch.entries.iter().map(|(_, entry)| entry.size()).sum();
            next = batch.next;
            let readings = self.process(batch).await?;
            if self.has_to_tell() {
                self.tell_control(next).await?;
            }
            if bytes < GATHER_BELOW {
                let begun = Instant::now();
                self.repair(next).await?;
                if readings > 0 {
                    tokio::time::sleep(GATHER.saturating_sub(begun.elapsed())).await;
                }
            }
        }
    }

    /// Learns where both sinks are; answers with the lower of their positions.
    async fn begin(&mut self) -> Result<i64, Fatal> {
        if self.duty == Duty::Follow {
            return Ok(self.rows_from());
        }
        loop {
            match self.parts.control.offset(self.parts.epoch, self.partition).await {
                Ok(at) => {
                    self.state.control(None);
                    return self.begin_at(at).await;
                }
                Err(error) => self.control_away(&error).await?,
            }
        }
    }

    /// The next offset whose rows the tail has not got.
    fn rows_from(&self) -> i64 {
        let next = self.parts.lake.tail().next_offsets();
        let next =
            usize::try_from(self.partition).ok().and_then(|p| next.get(p).copied().flatten());
        next.unwrap_or_else(|| self.parts.lake.next_offset(self.partition))
    }

    async fn log_bounds(&self) -> Result<Bounds, Fatal> {
        loop {
            match self.parts.log.bounds(LogTopic::Uplink, self.partition).await {
                Ok(bounds) => {
                    self.state.log(None);
                    return Ok(bounds);
                }
                Err(error) => self.log_away(&error).await?,
            }
        }
    }

    /// What comes next; none if it is not in the log.
    async fn read(&self, from: i64) -> Result<Option<Batch>, Fatal> {
        loop {
            match self.parts.log.read(LogTopic::Uplink, self.partition, from, READ).await {
                Ok(batch) => {
                    self.state.log(None);
                    return Ok(Some(batch));
                }
                Err(error) if error.kind() == ErrorKind::OutOfRange => return Ok(None),
                Err(error) => self.log_away(&error).await?,
            }
        }
    }

    async fn log_away(&self, error: &acuvim_log::Error) -> Result<(), Fatal> {
        if error.kind() == ErrorKind::Corrupt {
            return Err(Fatal::Broken(error.to_string()));
        }
        self.state.log(Some(error.to_string()));
        tokio::time::sleep(AWAY).await;
        Ok(())
    }

    /// At the log's end everything that came by now has been read. That a read brings nothing does
    /// not say that it is the end: only the log does.
    async fn note_end(&mut self, next: i64) -> Result<(), Fatal> {
        if self.duty == Duty::Write && self.checked.elapsed() >= self.options.command_check {
            let begun = Utc::now().timestamp_micros();
            if self.log_bounds().await?.end <= next {
                self.read_until = self.read_until.max(begun - ON_ITS_WAY);
            }
        }
        Ok(())
    }

    /// Where to go on when the log has dropped what comes next. Rows among it that are in no table
    /// are lost, and that is said as loud as can be: nothing brings them back.
    async fn skip_lost(&self, next: i64) -> Result<i64, Fatal> {
        let (partition, mut bounds) = (self.partition, self.log_bounds().await?);
        // A new leader may take a moment to know its end.
        for _ in 0..PATIENCE {
            if next <= bounds.end {
                break;
            }
            tokio::time::sleep(AWAY).await;
            bounds = self.log_bounds().await?;
        }
        if next > bounds.end {
            return Err(Fatal::Lost(format!(
                "partition {partition} ends at {}, and the tables have come to {next}: the log \
                 was replaced or set back",
                bounds.end
            )));
        }
        let (from, to) = (self.rows_from(), bounds.start);
        if from < to {
            let lost = u64::try_from(to - from).unwrap_or(0);
            metrics::counter!("acuvim_log_lost_records_total").increment(lost);
            tracing::error!(
                partition,
                from,
                to,
                "the log has dropped records that are in no table: they are lost; keep records for \
                 longer than the lake can be away"
            );
        }
        Ok(next.max(to))
    }

    /// Decodes a batch, drops its duplicates, and puts the rest into the tail; answers with how many
    /// readings it had.
    async fn process(&mut self, batch: Batch) -> Result<usize, Fatal> {
        let rows_from = self.rows_from();
        let lake = &self.parts.lake;
        let (changes_from, ledger_from) = match self.duty {
            // A lake that was written before there was a ledger is not counted again.
            Duty::Write => {
                let counted = lake.next_offset_of(Table::Ledger, self.partition);
                (self.changes_from, counted.max(lake.next_offset(self.partition)))
            }
            Duty::Follow => (i64::MAX, i64::MAX),
        };
        let owed = Owed { rows_from, changes_from, ledger_from };
        let first = batch.entries.first().map_or(batch.next, |(offset, _)| *offset);
        let (next, count) = (batch.next, batch.entries.len());
        let due = |device: &str, at: Micros| {
            self.told_of.get(device).is_none_or(|told| at - told >= TELL_OF_READINGS)
        };
        let decoded =
            tokio::task::block_in_place(|| self.decoder.decode(batch.entries, owed, &due))
                .map_err(|e| Fatal::Broken(e.to_string()))?;
        let Decoded { rows, changes, no_known_readings, unknown, known, said, replayed, .. } =
            decoded;
        let (messages, clock) = (decoded.messages, decoded.clock);
        // No clock of another process may end what is not due yet.
        let now = Utc::now().timestamp_micros();
        if let Some(received_at) = clock.last {
            self.read_until = self.read_until.max(received_at.min(now) - ON_ITS_WAY);
        }
        let readings = rows.telemetry.num_rows();
        self.judge_stored(first, next).await?;
        self.hear(said, &rows.telemetry, &unknown, known);
        let (mut stored, mut same_ts) = (HashSet::new(), HashSet::new());
        if next > rows_from {
            let newest = self.newest_of(&rows.telemetry);
            self.recall(&rows.telemetry, &newest).await?;
            let (rows, others) = self.without_duplicates(rows, &messages, ledger_from).await?;
            same_ts = others;
            metrics::counter!("acuvim_dead_letters_total")
                .increment(rows.dead_letters.num_rows() as u64);
            tokio::task::block_in_place(|| self.judge_rows(&rows.telemetry, newest))?;
            stored = count::stored_offsets(&replayed, &rows);
            let rows = self.dropped(rows, first..next);
            let batch = TailBatch { from: rows_from, next, rows };
            let pushed = self.parts.lake.push(self.partition, batch);
            pushed.map_err(|e| Fatal::Broken(e.to_string()))?;
        }
        let outcomes = count::outcomes(&replayed, (&stored, &same_ts), rows_from);
        self.pending.letters.replayed.extend(outcomes);
        metrics::counter!("acuvim_records_processed_total").increment(count as u64);
        metrics::counter!("acuvim_no_known_readings_total").increment(no_known_readings as u64);
        self.gather(changes.devices);
        self.pending.deliveries.extend(changes.deliveries);
        self.pending.answers.extend(changes.answers);
        self.pending.said.extend(changes.said);
        self.pending.letters.clockless.extend(changes.letters.clockless);
        Ok(readings)
    }

    /// A batch whose rows are lost, where a proof asks for that: the ledger must find it.
    fn dropped(&self, rows: Rows, offsets: std::ops::Range<i64>) -> Rows {
        match self.options.drop_offset {
            Some(offset) if offsets.contains(&offset) => {
                Rows { ledger: rows.ledger, ..Rows::none() }
            }
            _ => rows,
        }
    }

    async fn wait_for_room(&self) {
        let mut size = self.parts.lake.tail().size();
        // What others write may not take the room of what this process has to write itself.
        let max = match self.duty {
            Duty::Write => self.options.max_tail_bytes,
            Duty::Follow => self.options.max_tail_bytes / 2,
        };
        if size.borrow_and_update().bytes < max {
            return;
        }
        self.state.tail_full(true);
        let _ = size.wait_for(|size| size.bytes < max).await;
        self.state.tail_full(false);
    }
}
