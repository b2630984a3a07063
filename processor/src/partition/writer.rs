//! Writes a partition: its rows go to the tail, from where they are flushed to the lake, and its
//! changes go to control.

use std::{collections::HashSet, ops::Range, sync::Arc, time::Instant};

use acuvim_lakehouse::Rows;
use acuvim_log::Batch;
use acuvim_tables::Table;
use acuvim_wire::Micros;
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::{
    context::{Context, TRANSIT_TIME, count_processed},
    control_writer::{ControlCursor, ControlTarget, ControlWriter, WritePolicy},
    decode::{Decoded, Message, Replayed, SinkOffsets, StreamDecoder},
    dedup::Deduplicator,
    evaluate::{BatchEvaluation, RepairTurn, RuleEvaluator, WindowEnd},
    reader::{Reader, is_small},
    replays::{outcomes, stored_offsets},
    stop::StopReason,
};
use crate::{fatal::Fatal, rule_watch::RuleWatch};

/// The stages of a partition that this process writes, in the order in which a batch passes them.
pub(crate) struct Writer {
    context: Arc<Context>,
    /// The first offset whose changes were not in control at the start.
    changes_from: i64,
    reader: Reader,
    decode: StreamDecoder,
    dedup: Deduplicator,
    evaluate: RuleEvaluator,
    control_writer: ControlWriter,
}

/// What belongs to a decoded batch beside its rows.
struct BatchFacts {
    messages: Vec<Message>,
    replayed: Vec<Replayed>,
    offsets: Range<i64>,
    sinks: SinkOffsets,
}

/// The offsets of records that became rows, and of those that became dead letters in dedup. Empty
/// where no rows were stored.
#[derive(Default)]
struct StoredBatch {
    rows: HashSet<i64>,
    conflicts: HashSet<i64>,
}

impl Writer {
    /// Writes the partition until `stop`, and then on to the end that the log has by then; or until
    /// `give_up`, or until it can't go on.
    pub async fn run(
        context: Arc<Context>,
        rules: RuleWatch,
        stop: CancellationToken,
        give_up: CancellationToken,
    ) -> StopReason {
        let work = async { Self::open(context, rules).await?.work(stop).await };
        // It may be given up at any await: the next owner reads again from the stored offsets.
        match give_up.run_until_cancelled(Box::pin(work)).await {
            None | Some(Ok(())) => StopReason::Requested,
            Some(Err(reason)) => reason,
        }
    }

    /// Goes on at the lower of the offsets of lake and control.
    async fn open(context: Arc<Context>, rules: RuleWatch) -> Result<Self, StopReason> {
        let stored_next = stored_offset(&context).await?;
        let start = context.log_bounds().await?.start;
        let changes_from = stored_next.unwrap_or(0);
        if changes_from < start {
            // Happens after the control database was replaced. The rows are in the lake; what control
            // keeps about devices is complete again once they have sent it again.
            let (partition, next) = (context.partition, changes_from);
            tracing::warn!(partition, next, start, "control has missed records that are gone");
        }
        // Records before it are gone from the log, and can't be read for either sink.
        let first = changes_from.max(start);
        let evaluate =
            RuleEvaluator::load(Arc::clone(&context), rules, changes_from, first).await?;
        let control_writer = start_control_writer(&context, stored_next, first).await;
        let next = context.rows_from().min(first);
        Ok(Self {
            changes_from,
            reader: Reader::open(Arc::clone(&context), next).await?,
            decode: context.decoder(),
            dedup: Deduplicator::new(Arc::clone(&context)),
            evaluate,
            control_writer,
            context,
        })
    }

    async fn work(&mut self, stop: CancellationToken) -> Result<(), StopReason> {
        loop {
            self.reader.report_caught_up();
            if stop.is_cancelled() && self.reader.has_read_all().await? {
                let next = self.reader.next();
                return self.control_writer.finish(next, &mut self.evaluate).await;
            }
            self.context.wait_for_room(self.context.options.max_tail_bytes).await;
            let Some(batch) = self.reader.read().await? else { continue };
            // Between batches only, so that all rows of one are evaluated by the same rules.
            self.evaluate.renew_rules();
            // Before the batch, because a device that was silent until now may be heard in it.
            let silence = self.evaluate.silence(self.decode.clock());
            self.control_writer.add_evaluation(silence);
            if batch.entries.is_empty() {
                self.note_log_end().await?;
                self.write_if_due().await?;
                self.repair().await?;
                continue;
            }
            let is_small = is_small(&batch);
            let readings = self.process(batch).await?;
            self.write_if_due().await?;
            // A stream that is behind has no time for repairs.
            if is_small {
                let begun = Instant::now();
                self.repair().await?;
                if readings > 0 {
                    self.reader.gather(begun).await;
                }
            }
        }
    }

    /// At the log's end, everything was read that had arrived by now: commands that were due can
    /// time out although no later record has arrived.
    async fn note_log_end(&mut self) -> Result<(), Fatal> {
        if self.control_writer.is_command_check_due() {
            let now = Utc::now().timestamp_micros();
            if self.reader.is_at_end().await? {
                self.control_writer.has_read_until(now - TRANSIT_TIME);
            }
        }
        Ok(())
    }

    async fn write_if_due(&mut self) -> Result<(), StopReason> {
        if self.control_writer.is_due(&self.evaluate) {
            self.control_writer.write(self.reader.next(), &mut self.evaluate).await?;
        }
        Ok(())
    }

    /// Takes a batch through the stages; returns how many readings it had.
    async fn process(&mut self, batch: Batch) -> Result<usize, Fatal> {
        let sinks = self.sink_offsets();
        let first = batch.entries.first().map_or(batch.next, |(offset, _)| *offset);
        let (offsets, count) = (first..batch.next, batch.entries.len());
        let Decoded {
            rows,
            changes,
            no_known_readings,
            unknown,
            known,
            reports,
            replayed,
            messages,
            clock,
        } = self.decode(batch, sinks)?;
        if let Some(received_at) = clock.last {
            // An ingest whose clock is ahead must not end commands before their time.
            let now = Utc::now().timestamp_micros();
            self.control_writer.has_read_until(received_at.min(now) - TRANSIT_TIME);
        }
        let readings = rows.telemetry.num_rows();
        let mut found = BatchEvaluation::default();
        self.evaluate.stored_rows(offsets.clone(), &mut found).await?;
        self.evaluate.device_reports(reports, &rows.telemetry, &unknown, known, &mut found);
        let batch = BatchFacts { messages, replayed, offsets, sinks };
        let mut stored = StoredBatch::default();
        if batch.offsets.end > sinks.rows_from {
            stored = self.store_rows(rows, &batch, &mut found).await?;
        }
        let StoredBatch { rows, conflicts } = &stored;
        let outcomes = outcomes(&batch.replayed, rows, conflicts, sinks.rows_from);
        self.control_writer.add_replays(outcomes);
        self.control_writer.add_evaluation(found);
        self.control_writer.add_decoded(changes);
        count_processed(count, no_known_readings);
        Ok(readings)
    }

    fn decode(&mut self, batch: Batch, sinks: SinkOffsets) -> Result<Decoded, Fatal> {
        let control_writer = &self.control_writer;
        let is_due = |device: &str, at: Micros| control_writer.is_reading_due(device, at);
        tokio::task::block_in_place(|| self.decode.decode(batch.entries, sinks, &is_due))
            .map_err(Fatal::failed)
    }

    /// Drops the duplicates of a batch, evaluates its rows and puts them into the tail.
    async fn store_rows(
        &mut self,
        rows: Rows,
        batch: &BatchFacts,
        found: &mut BatchEvaluation,
    ) -> Result<StoredBatch, Fatal> {
        let BatchFacts { messages, replayed, offsets, sinks } = batch;
        // Before the push, after which the rows themselves would be the newest.
        let newest = self.evaluate.newest_before(&rows.telemetry);
        self.evaluate.recall(&rows.telemetry, &newest).await?;
        let lookup = self.dedup.look_up(&rows).await?;
        // Nothing may wait from here to the push: see `Deduplicator::apply`.
        let deduplicated = self.dedup.apply(rows, messages, sinks.ledger_from, &lookup)?;
        let rows = deduplicated.rows;
        tokio::task::block_in_place(|| self.evaluate.new_rows(&rows.telemetry, newest, found))?;
        let stored = stored_offsets(replayed, &rows);
        self.context.push(sinks.rows_from, offsets, rows)?;
        Ok(StoredBatch { rows: stored, conflicts: deduplicated.conflicts })
    }

    fn sink_offsets(&self) -> SinkOffsets {
        let lake = &self.context.dependencies.lake;
        let partition = self.context.partition;
        // The rows of a lake that is older than its ledger are not counted afterwards.
        let counted = lake.next_offset_of(Table::Ledger, partition);
        SinkOffsets {
            rows_from: self.context.rows_from(),
            changes_from: self.changes_from,
            ledger_from: counted.max(lake.next_offset(partition)),
        }
    }

    /// Gives a repair its turn: one window.
    async fn repair(&mut self) -> Result<(), StopReason> {
        let next = self.reader.next();
        let Some(turn) = self.evaluate.repair_turn(next) else { return Ok(()) };
        if let RepairTurn::Begin { device, from } = turn {
            // The repair begins with what control has recorded, so all of that has to be there.
            let begun = self.control_writer.settle(next, &mut self.evaluate).await?
                && self.evaluate.begin_repair(device, from).await?;
            if !begun {
                self.evaluate.pause_repairs();
                return Ok(());
            }
        }
        let done = match self.evaluate.repair_window().await? {
            WindowEnd::More => true,
            WindowEnd::Last => self.finish_repair(next).await?,
            WindowEnd::Unavailable => false,
        };
        if !done {
            self.evaluate.pause_repairs();
        }
        Ok(())
    }

    /// Writes what the repair under way has found; false if control is away or slow, in which case
    /// the repair begins again.
    async fn finish_repair(&mut self, next: i64) -> Result<bool, StopReason> {
        let Some(repair) = self.evaluate.take_repair() else { return Ok(true) };
        // The repair is compared with what control has recorded, which has to be complete for that.
        if !self.control_writer.settle(next, &mut self.evaluate).await? {
            return Ok(false);
        }
        let Some(found) = self.evaluate.finish_repair(*repair).await else { return Ok(false) };
        self.control_writer.add_evaluation(found);
        self.control_writer.write(next, &mut self.evaluate).await?;
        Ok(true)
    }
}

/// The offset that control has stored for the partition, once control answers.
async fn stored_offset(context: &Context) -> Result<Option<i64>, Fatal> {
    let dependencies = &context.dependencies;
    loop {
        match dependencies.control.offset(dependencies.epoch, context.partition).await {
            Ok(stored) => {
                context.state.control(None);
                return Ok(stored);
            }
            Err(error) => context.control_unavailable(error).await?,
        }
    }
}

/// Starts the control writer, and moves the embedded log's cursor to where it goes on.
async fn start_control_writer(
    context: &Context,
    stored_next: Option<i64>,
    first: i64,
) -> ControlWriter {
    let (partition, dependencies) = (context.partition, &context.dependencies);
    let log = &dependencies.log;
    let cursor =
        (!context.options.shared).then(|| ControlCursor { log: Arc::clone(log), partition });
    let target = ControlTarget {
        control: dependencies.control.clone(),
        epoch: dependencies.epoch,
        partition,
        state: context.state.clone(),
        cursor: cursor.clone(),
    };
    let policy = WritePolicy {
        partitions: log.partitions(),
        command_check: context.options.command_check,
        resend: context.options.resend.clone(),
    };
    let writer = ControlWriter::start(target, policy, stored_next);
    if let Some(cursor) = cursor {
        cursor.move_to(first).await;
    }
    writer
}
