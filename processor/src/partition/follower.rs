//! Follows a partition that another process writes: its rows are kept in the tail for queries,
//! until the tables have them.

use std::sync::Arc;

use acuvim_log::Batch;
use tokio_util::sync::CancellationToken;

use super::{
    context::{Context, count_processed},
    decode::{SinkOffsets, StreamDecoder},
    dedup::Deduplicator,
    reader::{Reader, is_small},
    stop::StopReason,
};
use crate::fatal::Fatal;

/// The stages of a partition that another process writes, in the order in which a batch passes
/// them.
pub(crate) struct Follower {
    context: Arc<Context>,
    reader: Reader,
    decode: StreamDecoder,
    dedup: Deduplicator,
}

impl Follower {
    /// Follows the partition until `stop` or `give_up`, or until it can't go on.
    pub async fn run(
        context: Arc<Context>,
        stop: CancellationToken,
        give_up: CancellationToken,
    ) -> StopReason {
        let work = async { Self::open(context).await?.work(stop).await };
        match give_up.run_until_cancelled(Box::pin(work)).await {
            None | Some(Ok(())) => StopReason::Requested,
            Some(Err(fatal)) => StopReason::Fatal(fatal),
        }
    }

    async fn open(context: Arc<Context>) -> Result<Self, Fatal> {
        Ok(Self {
            reader: Reader::open(Arc::clone(&context), context.rows_from()).await?,
            decode: context.decoder(),
            dedup: Deduplicator::new(Arc::clone(&context)),
            context,
        })
    }

    async fn work(&mut self, stop: CancellationToken) -> Result<(), Fatal> {
        // The rest is for the partitions that this process has to flush.
        let max_tail_bytes = self.context.options.max_tail_bytes / 2;
        loop {
            self.reader.report_caught_up();
            if stop.is_cancelled() {
                return Ok(());
            }
            self.context.wait_for_room(max_tail_bytes).await;
            let Some(batch) = self.reader.read().await? else { continue };
            if batch.entries.is_empty() {
                continue;
            }
            let is_small = is_small(&batch);
            let readings = self.process(batch).await?;
            if is_small && readings > 0 {
                self.reader.gather(std::time::Instant::now()).await;
            }
        }
    }

    /// Takes a batch through the stages; returns how many readings it had.
    async fn process(&mut self, batch: Batch) -> Result<usize, Fatal> {
        let rows_from = self.context.rows_from();
        // Changes and ledger are the writer's.
        let sinks = SinkOffsets { rows_from, changes_from: i64::MAX, ledger_from: i64::MAX };
        let first = batch.entries.first().map_or(batch.next, |(offset, _)| *offset);
        let (offsets, count) = (first..batch.next, batch.entries.len());
        let decode = || self.decode.decode(batch.entries, sinks, &|_, _| false);
        let decoded = tokio::task::block_in_place(decode).map_err(Fatal::failed)?;
        let readings = decoded.rows.telemetry.num_rows();
        if offsets.end > rows_from {
            let lookup = self.dedup.look_up(&decoded.rows).await?;
            // Nothing may wait from here to the push: see `Deduplicator::apply`.
            let deduplicated =
                self.dedup.apply(decoded.rows, &decoded.messages, i64::MAX, &lookup)?;
            self.context.push(rows_from, &offsets, deduplicated.rows)?;
        }
        count_processed(count, decoded.no_known_readings);
        Ok(readings)
    }
}
