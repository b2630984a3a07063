//! A query's rows as the parts of an export: bytes, and after the last of them a count and hash that prove
//! that they are complete.

use std::{io, pin::Pin, time::Instant};

use acuvim_model::{ExportFormat, problem::Code};
use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::{
    physical_plan::SendableRecordBatchStream,
    prelude::{DataFrame, SessionContext},
};
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    encode::{Encoder, Lines},
    engine::{ExportSlot, Sql, ViewState, from_engine},
    error::QueryError,
};

/// Bytes that are sent at once, or a little more.
const CHUNK: usize = 256 << 10;

/// Rows that are written as one piece: few enough to stay in the processor's cache.
const PIECE: usize = 1024;

/// Bytes that a cell may have before its piece needs more memory.
const CELL: usize = 8;

/// Chunks that wait for a client.
const WAITING: usize = 4;

/// Batches that are read before they can be written: each is several thousand rows of decoded columns.
const AHEAD: usize = 2;

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportPart {
    /// Some of its bytes.
    Data(Bytes),
    /// All bytes were sent. This comes last, and only if nothing failed.
    Complete {
        /// How many rows there were.
        rows: u64,
        /// The SHA-256 of all bytes, in hex.
        sha256: String,
    },
}

/// The parts of an export in order: up to [`ExportPart::Complete`], or an error where it broke off.
pub type ExportStream = BoxStream<'static, io::Result<ExportPart>>;

/// An export that has begun.
pub struct Export {
    /// Its parts in order, the proof that it is complete at the end.
    pub parts: ExportStream,
    /// The state of the lake that its rows were read from.
    pub view: ViewState,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("view", &self.view).finish_non_exhaustive()
    }
}

type Sent = io::Result<ExportPart>;

/// Begins to export the rows that `query` selects from lake and tail. A bad request fails here, before the
/// first byte; later errors break the stream off.
///
/// # Errors
/// When the rows can't be planned, or no slot is free.
pub async fn export<F>(
    sql: &Sql,
    format: ExportFormat,
    decimals: bool,
    query: impl FnOnce(SessionContext) -> F + Send + 'static,
) -> Result<Export, QueryError>
where
    F: Future<Output = datafusion::error::Result<DataFrame>> + Send + 'static,
{
    sql.require_tail()?;
    let busy =
        || QueryError::new(Code::TooManyRequests, "as many exports run as may; try again later");
    let slot = sql.exports().enter().ok_or_else(busy)?;
    let of = sql.clone();
    let planned = sql.on_threads(async move {
        let view = of.lake().view(true)?;
        let context = of.session_over(&view)?;
        let rows = query(context).await.map_err(|e| from_engine(&e))?;
        let rows = match rows.execute_stream().await {
            Ok(rows) => rows,
            Err(error) => return Err(of.explain(&error).await),
        };
        let encoder = Encoder::new(format, &rows.schema(), decimals);
        let encoder = encoder.map_err(|e| QueryError::internal(&e))?;
        // The view itself is dropped here: the plan holds what it needs of it.
        Ok((ViewState::from(&view), rows, encoder))
    });
    let (view, rows, encoder) = planned.await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    sql.threads().spawn(send(rows, encoder, sender, slot));
    Ok(Export { parts: parts(receiver).boxed(), view })
}

/// The parts of a channel. Only [`ExportPart::Complete`] ends them well: a channel that is closed because
/// its sender gave up or panicked would otherwise look like a complete export.
fn parts(receiver: mpsc::Receiver<Sent>) -> impl Stream<Item = Sent> + Send {
    stream::unfold((receiver, false), |(mut receiver, is_complete)| async move {
        match receiver.recv().await {
            Some(part) => {
                let is_complete = matches!(part, Ok(ExportPart::Complete { .. }));
                Some((part, (receiver, is_complete)))
            }
            None if is_complete => None,
            None => Some((Err(io::Error::other("the export broke off")), (receiver, true))),
        }
    })
}

/// Sends everything; an error closes the channel before its end.
async fn send(
    rows: SendableRecordBatchStream,
    encoder: Encoder,
    sender: mpsc::Sender<Sent>,
    mut slot: ExportSlot,
) {
    let begun = Instant::now();
    match send_all(rows, encoder, &sender, &mut slot).await {
        Ok(count) => {
            metrics::counter!("acuvim_exported_rows_total").increment(count);
            metrics::histogram!("acuvim_export_seconds").record(begun.elapsed());
        }
        Err(StopReason::ClientGone) => {
            tracing::debug!("an export's client is gone, or reads little or nothing");
        }
        Err(StopReason::Failed(error)) => {
            tracing::info!(%error, "an export broke off");
        }
    }
}

/// Why an export ended before its last row.
enum StopReason {
    ClientGone,
    /// The rows could not be read or written.
    Failed(String),
}

/// Reads ahead: the next rows are decoded while these are written.
fn read_ahead(
    mut rows: SendableRecordBatchStream,
) -> (mpsc::Receiver<datafusion::error::Result<RecordBatch>>, AbortOnDropHandle<()>) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let task = tokio::spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
    });
    (receiver, AbortOnDropHandle::new(task))
}

async fn send_all(
    rows: SendableRecordBatchStream,
    mut encoder: Encoder,
    sender: &mpsc::Sender<Sent>,
    slot: &mut ExportSlot,
) -> Result<u64, StopReason> {
    let failed = |e: &dyn std::fmt::Display| StopReason::Failed(e.to_string());
    let (hash, waiting) = (Sha256::new(), encoder.take());
    let mut sending = Sending { count: 0, hash, waiting, sender, slot };
    let (mut rows, reader) = read_ahead(rows);
    match encoder.lines() {
        Some(lines) => {
            let mut pieces = written(rows, lines);
            while let Some(piece) = pieces.next().await {
                let Piece { rows, bytes } = piece.map_err(StopReason::Failed)?;
                sending.put(rows, bytes).await?;
            }
        }
        None => {
            while let Some(batch) = rows.recv().await {
                let batch = batch.map_err(|e| failed(&e))?;
                encoder.write(&batch).map_err(|e| failed(&e))?;
                sending.put(batch.num_rows(), encoder.take()).await?;
            }
        }
    }
    // The channel also ends when the reader panics: only its own end says that all rows were read.
    reader.await.map_err(|e| failed(&e))?;
    let rest = encoder.finish().map_err(|e| failed(&e))?;
    sending.end(rest).await
}

/// Some rows as text.
struct Piece {
    rows: usize,
    bytes: Vec<u8>,
}

/// Pieces in order; an error is the reason why there are no more.
type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, String>> + Send>>;

/// Rows as lines, in their order; several pieces are written at a time.
fn written(rows: mpsc::Receiver<datafusion::error::Result<RecordBatch>>, lines: Lines) -> Pieces {
    let batches = stream::unfold(rows, |mut rows| async move { Some((rows.recv().await?, rows)) });
    let pieces = batches.flat_map(|batch| stream::iter(cut(batch))).map(move |batch| {
        let lines = lines.clone();
        let task = tokio::spawn(async move {
            let batch = batch.map_err(|e| e.to_string())?;
            let mut bytes = Vec::with_capacity(batch.num_rows() * batch.num_columns() * CELL);
            lines.write(&batch, &mut bytes);
            Ok(Piece { rows: batch.num_rows(), bytes })
        });
        // Dropped with the stream: an export that breaks off leaves no writer behind.
        let task = AbortOnDropHandle::new(task);
        async move { task.await.map_err(|e| e.to_string())? }
    });
    Box::pin(pieces.buffered(AHEAD))
}

fn cut(
    batch: datafusion::error::Result<RecordBatch>,
) -> Vec<datafusion::error::Result<RecordBatch>> {
    match batch {
        Ok(batch) => {
            let rows = batch.num_rows();
            let piece = |at| Ok(batch.slice(at, PIECE.min(rows - at)));
            (0..rows).step_by(PIECE).map(piece).collect()
        }
        Err(error) => vec![Err(error)],
    }
}

/// Bytes on their way to the client.
struct Sending<'a> {
    count: u64,
    hash: Sha256,
    waiting: Vec<u8>,
    sender: &'a mpsc::Sender<Sent>,
    slot: &'a mut ExportSlot,
}

impl Sending<'_> {
    async fn put(&mut self, rows: usize, bytes: Vec<u8>) -> Result<(), StopReason> {
        self.count += rows as u64;
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
        }
        if self.waiting.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StopReason> {
        let bytes = std::mem::take(&mut self.waiting);
        self.hash.update(&bytes);
        let count = bytes.len();
        self.send(ExportPart::Data(bytes.into()), count).await
    }

    async fn send(&mut self, part: ExportPart, bytes: usize) -> Result<(), StopReason> {
        let sent = self.slot.send(self.sender, Ok(part), bytes).await;
        sent.map_err(|_| StopReason::ClientGone)
    }

    /// Sends the rest, and that it is complete; answers with how many rows there were.
    async fn end(mut self, rest: Vec<u8>) -> Result<u64, StopReason> {
        self.put(0, rest).await?;
        self.flush().await?;
        // Only now: the end of a Parquet file, its footer, is hashed as well.
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        self.send(ExportPart::Complete { rows: self.count, sha256 }, 0).await?;
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ExportSlots;
    use datafusion::{error::DataFusionError, physical_plan::stream::RecordBatchStreamAdapter};
    use std::sync::Arc;
    use std::time::Duration;

    fn data(text: &'static str) -> Sent {
        Ok(ExportPart::Data(Bytes::from_static(text.as_bytes())))
    }

    fn complete() -> ExportPart {
        ExportPart::Complete { rows: 1, sha256: String::new() }
    }

    async fn collected(receiver: mpsc::Receiver<Sent>) -> io::Result<Vec<ExportPart>> {
        parts(receiver).collect::<Vec<_>>().await.into_iter().collect()
    }

    #[tokio::test]
    async fn a_reader_that_fails_in_the_middle_is_no_end() {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let broken = stream::once(async { Err(DataFusionError::Internal(fail().await)) });
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), broken));
        let encoder = Encoder::new(ExportFormat::Csv, &(schema as _), false).expect("an encoder");
        let (sender, _receiver) = mpsc::channel(WAITING);
        let slots = ExportSlots::new(1, Duration::from_secs(9));
        let ended = send_all(rows, encoder, &sender, &mut slots.enter().expect("a slot")).await;
        assert!(matches!(ended, Err(StopReason::Failed(_))));
    }

    /// As a bug would.
    async fn fail() -> String {
        tokio::task::yield_now().await;
        panic!("the reader's end");
    }

    #[tokio::test]
    async fn an_export_that_nobody_reads_ends_and_makes_room() {
        let column = arrow::array::StringArray::from(vec!["x".repeat(CHUNK / 4).as_str(); 8]);
        let rows = RecordBatch::try_from_iter([("text", Arc::new(column) as _)]).expect("rows");
        let schema = rows.schema();
        let endless = stream::repeat_with(move || Ok::<_, DataFusionError>(rows.clone()));
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), endless));
        let encoder = Encoder::new(ExportFormat::Csv, &schema, false).expect("an encoder");
        let slots = ExportSlots::new(1, Duration::from_millis(100));
        let slot = slots.enter().expect("a slot");
        let (sender, receiver) = mpsc::channel(WAITING);
        assert!(slots.enter().is_none(), "there is one slot");
        // The client holds its connection and reads nothing.
        send(rows, encoder, sender, slot).await;
        assert!(slots.enter().is_some(), "the slot is free again");
        collected(receiver).await.expect_err("it has no end");
    }

    /// Batches of rows that count on from each other.
    fn counted(batches: usize, rows: usize) -> Vec<RecordBatch> {
        let batch = |n: usize| {
            let first = i64::try_from(n * rows).expect("few");
            let numbers = (first..).take(rows);
            let numbers = arrow::array::Int64Array::from_iter_values(numbers);
            RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).expect("rows")
        };
        (0..batches).map(batch).collect()
    }

    fn stream_of(
        batches: Vec<Result<RecordBatch, DataFusionError>>,
    ) -> (SendableRecordBatchStream, arrow::datatypes::SchemaRef) {
        let schema = counted(1, 1)[0].schema();
        let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter(batches));
        (Box::pin(rows), schema)
    }

    /// Everything that a client gets that reads at once.
    async fn received(
        format: ExportFormat,
        batches: Vec<Result<RecordBatch, DataFusionError>>,
    ) -> (Vec<u8>, Option<io::Result<ExportPart>>) {
        let (rows, schema) = stream_of(batches);
        let encoder = Encoder::new(format, &schema, false).expect("an encoder");
        let slots = ExportSlots::new(1, Duration::from_secs(60));
        let (sender, receiver) = mpsc::channel(WAITING);
        let sending = send(rows, encoder, sender, slots.enter().expect("a slot"));
        let (all, ()) = tokio::join!(parts(receiver).collect::<Vec<_>>(), sending);
        let (mut bytes, mut end) = (Vec::new(), None);
        for part in all {
            assert!(end.is_none(), "nothing comes after the end");
            match part {
                Ok(ExportPart::Data(data)) => bytes.extend_from_slice(&data),
                last => end = Some(last),
            }
        }
        (bytes, end)
    }

    fn hash_of(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn an_export_has_every_row_in_order_and_proves_it() {
        // More than one piece in a batch, and more than one chunk in all.
        let batches = || counted(12, 5000).into_iter().map(Ok).collect::<Vec<_>>();
        let (bytes, end) = received(ExportFormat::Csv, batches()).await;
        let wanted: String = (0..60_000).map(|n| format!("{n}\n")).collect();
        assert!(bytes.len() > CHUNK && bytes == format!("n\n{wanted}").into_bytes());
        let complete = ExportPart::Complete { rows: 60_000, sha256: hash_of(&bytes) };
        assert_eq!(end.expect("an end").expect("complete"), complete);
        for format in [ExportFormat::Ndjson, ExportFormat::Arrow, ExportFormat::Parquet] {
            let (bytes, end) = received(format, batches()).await;
            let complete = ExportPart::Complete { rows: 60_000, sha256: hash_of(&bytes) };
            assert_eq!(end.expect("an end").expect("complete"), complete, "{format:?}");
        }
    }

    #[tokio::test]
    async fn an_export_of_nothing_is_complete() {
        let (bytes, end) = received(ExportFormat::Ndjson, vec![]).await;
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(bytes.is_empty());
        let complete = ExportPart::Complete { rows: 0, sha256: sha256.to_owned() };
        assert_eq!(end.expect("an end").expect("complete"), complete);
    }

    #[tokio::test]
    async fn an_export_whose_rows_fail_in_the_middle_is_not_complete() {
        for format in [ExportFormat::Csv, ExportFormat::Parquet] {
            let mut batches: Vec<_> = counted(3, 5000).into_iter().map(Ok).collect();
            batches.insert(2, Err(DataFusionError::Execution("a file is gone".to_owned())));
            let (_, end) = received(format, batches).await;
            let error = end.expect("an end").expect_err("broken off");
            // The cause may name files: it is in the log alone.
            assert_eq!(error.to_string(), "the export broke off", "{format:?}");
        }
    }

    #[test]
    fn a_batch_is_cut_into_pieces_that_are_all_of_it() {
        let rows = counted(1, 2 * PIECE + 1).remove(0);
        let sizes = |rows: RecordBatch| -> Vec<usize> {
            cut(Ok(rows)).into_iter().map(|piece| piece.expect("rows").num_rows()).collect()
        };
        assert_eq!(sizes(rows.clone()), [PIECE, PIECE, 1]);
        assert_eq!(sizes(rows.slice(0, PIECE)), [PIECE]);
        assert!(sizes(rows.slice(0, 0)).is_empty());
        assert_eq!(cut(Err(DataFusionError::Internal(String::new()))).len(), 1, "an error stays");
    }

    #[tokio::test]
    async fn an_export_without_its_last_part_is_broken_off() {
        let (sender, receiver) = mpsc::channel(WAITING);
        sender.send(data("a row\n")).await.expect("room");
        sender.send(Ok(complete())).await.expect("room");
        drop(sender);
        let whole = collected(receiver).await.expect("whole");
        assert_eq!(whole, [data("a row\n").expect("data"), complete()]);
        // The sender gave up, or its task has panicked.
        let (sender, receiver) = mpsc::channel(WAITING);
        sender.send(data("a row\n")).await.expect("room");
        drop(sender);
        collected(receiver).await.expect_err("broken off");
    }
}
