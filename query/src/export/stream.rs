//! A query's rows as the body of an answer.

use std::{pin::Pin, sync::Arc, time::Instant};

use acuvim_schemas::{api::ExportFormat, problem::Code};
use arrow::array::RecordBatch;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue},
};
use datafusion::{
    physical_plan::SendableRecordBatchStream,
    prelude::{DataFrame, SessionContext},
};
use futures::{Stream, StreamExt as _, stream};
use http_body::Frame;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    encode::{Encoder, Lines},
    slots::Slot,
};
use crate::{
    App,
    problem::ApiError,
    sql::{explain, from_engine, session_over},
};

/// Bytes that are sent at once, or a little more.
const CHUNK: usize = 256 << 10;

/// Rows that are written as one piece: few enough to stay near the processor.
const PIECE: usize = 1024;

/// Bytes that a cell may have before its piece needs more memory.
const CELL: usize = 8;

/// Chunks that wait for a client.
const WAITING: usize = 4;

/// Batches that are read before they can be written.
const AHEAD: usize = 2;

/// The names of the trailers: how many rows there were, and the hash of all bytes, in hex.
pub(crate) const TRAILERS: &str = "x-row-count, x-content-sha256";

/// An export that has begun.
pub(crate) struct Exported {
    pub body: Body,
    pub lake_version: i64,
    pub watermark: Vec<i64>,
}

type Sent = Result<Frame<Bytes>, std::io::Error>;

/// Begins to answer with the rows that `ask` makes of the lake and its tail. What is wrong with the
/// question is known before the first byte; what goes wrong later breaks the body off.
pub(crate) async fn export<F>(
    app: &Arc<App>,
    format: ExportFormat,
    decimals: bool,
    ask: impl FnOnce(SessionContext) -> F + Send + 'static,
) -> Result<Exported, ApiError>
where
    F: Future<Output = datafusion::error::Result<DataFrame>> + Send + 'static,
{
    if let Some(reason) = app.status().not_hot {
        return Err(ApiError::new(Code::Unavailable, reason));
    }
    let busy =
        || ApiError::new(Code::TooManyRequests, "as many exports run as may; try again later");
    let slot = app.exports.enter().ok_or_else(busy)?;
    let threads = app.threads.handle();
    let (app, work) = (Arc::clone(app), threads.clone());
    // Whoever goes away while it is planned ends the planning.
    let begun = AbortOnDropHandle::new(work.spawn(async move {
        let view = app.lake().view(true)?;
        let context = session_over(&app, &view)?;
        let rows = ask(context).await.map_err(|e| from_engine(&e))?;
        let rows = match rows.execute_stream().await {
            Ok(rows) => rows,
            Err(error) => return Err(explain(&app, &error).await),
        };
        let encoder = Encoder::new(format, &rows.schema(), decimals);
        let encoder = encoder.map_err(|e| ApiError::internal(&e))?;
        // What the plan needs of the view it holds itself.
        Ok::<_, ApiError>((view.version, view.watermark, rows, encoder))
    }));
    let (lake_version, watermark, rows, encoder) =
        begun.await.map_err(|e| ApiError::internal(&e))??;
    let (sender, receiver) = mpsc::channel(WAITING);
    threads.spawn(send(rows, encoder, sender, slot));
    Ok(Exported { body: body(receiver), lake_version, watermark })
}

/// A body that ends whole only behind the trailers: whatever else ends it breaks it off.
fn body(receiver: mpsc::Receiver<Sent>) -> Body {
    let frames = stream::unfold((receiver, false), |(mut receiver, whole)| async move {
        match receiver.recv().await {
            Some(frame) => {
                let whole = frame.as_ref().is_ok_and(Frame::is_trailers);
                Some((frame, (receiver, whole)))
            }
            None if whole => None,
            None => Some((Err(std::io::Error::other("the export broke off")), (receiver, true))),
        }
    });
    Body::new(http_body_util::StreamBody::new(frames))
}

/// Sends everything, then the trailers; an error ends the body before its end.
async fn send(
    rows: SendableRecordBatchStream,
    encoder: Encoder,
    sender: mpsc::Sender<Sent>,
    mut slot: Slot,
) {
    let begun = Instant::now();
    match send_all(rows, encoder, &sender, &mut slot).await {
        Ok(count) => {
            metrics::counter!("acuvim_exported_rows_total").increment(count);
            metrics::histogram!("acuvim_export_seconds").record(begun.elapsed());
        }
        Err(Ended::Gone) => {
            tracing::debug!("an export's client has gone, or takes little or nothing");
        }
        Err(Ended::Failed(error)) => {
            tracing::info!(%error, "an export broke off");
        }
    }
}

enum Ended {
    /// Nobody takes it any more.
    Gone,
    /// The rows can't be had.
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
    slot: &mut Slot,
) -> Result<u64, Ended> {
    let failed = |e: &dyn std::fmt::Display| Ended::Failed(e.to_string());
    let (hash, waiting) = (Sha256::new(), encoder.take());
    let mut sending = Sending { count: 0, hash, waiting, sender, slot };
    let (mut rows, reader) = read_ahead(rows);
    match encoder.lines() {
        Some(lines) => {
            let mut pieces = written(rows, lines);
            while let Some(piece) = pieces.next().await {
                let (count, bytes) = piece.map_err(Ended::Failed)?;
                sending.put(count, bytes).await?;
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
    // That nothing more comes is the end only if the reader has come to it.
    reader.await.map_err(|e| failed(&e))?;
    let rest = encoder.finish().map_err(|e| failed(&e))?;
    sending.end(rest).await
}

/// How many rows, and their bytes; or what went wrong with them.
type Pieces = Pin<Box<dyn Stream<Item = Result<(usize, Vec<u8>), String>> + Send>>;

/// Rows as lines, in their order; several runs of rows are written at once.
fn written(rows: mpsc::Receiver<datafusion::error::Result<RecordBatch>>, lines: Lines) -> Pieces {
    let batches = stream::unfold(rows, |mut rows| async move { Some((rows.recv().await?, rows)) });
    let pieces = batches.flat_map(|batch| stream::iter(cut(batch))).map(move |batch| {
        let lines = lines.clone();
        let task = tokio::spawn(async move {
            let batch = batch.map_err(|e| e.to_string())?;
            let mut out = Vec::with_capacity(batch.num_rows() * batch.num_columns() * CELL);
            lines.of(&batch, &mut out);
            Ok((batch.num_rows(), out))
        });
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

/// What is on its way to the client.
struct Sending<'a> {
    count: u64,
    hash: Sha256,
    waiting: Vec<u8>,
    sender: &'a mpsc::Sender<Sent>,
    slot: &'a mut Slot,
}

impl Sending<'_> {
    async fn put(&mut self, rows: usize, bytes: Vec<u8>) -> Result<(), Ended> {
        self.count += rows as u64;
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
        }
        if self.waiting.len() >= CHUNK { self.give().await } else { Ok(()) }
    }

    async fn give(&mut self) -> Result<(), Ended> {
        let bytes = std::mem::take(&mut self.waiting);
        self.hash.update(&bytes);
        let count = bytes.len();
        let frame = Ok(Frame::data(Bytes::from(bytes)));
        self.slot.give(self.sender, frame, count).await.map_err(|_| Ended::Gone)
    }

    /// Sends the rest, and the trailers; how many rows there were.
    async fn end(mut self, rest: Vec<u8>) -> Result<u64, Ended> {
        self.put(0, rest).await?;
        self.give().await?;
        let digest = self.hash.finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-row-count", self.count.into());
        if let Ok(hex) = HeaderValue::from_str(&hex) {
            trailers.insert("x-content-sha256", hex);
        }
        let frame = Ok(Frame::trailers(trailers));
        self.slot.give(self.sender, frame, 0).await.map_err(|_| Ended::Gone)?;
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ExportSlots;
    use datafusion::{error::DataFusionError, physical_plan::stream::RecordBatchStreamAdapter};
    use http_body_util::BodyExt as _;
    use std::time::Duration;

    fn data(text: &'static str) -> Sent {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_reader_that_fails_in_the_middle_is_no_end() {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let broken = stream::once(async { Err(DataFusionError::Internal(fail().await)) });
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), broken));
        let encoder = Encoder::new(ExportFormat::Csv, &(schema as _), false).expect("an encoder");
        let (sender, _receiver) = mpsc::channel(WAITING);
        let slots = ExportSlots::new(1, Duration::from_secs(9));
        let ended = send_all(rows, encoder, &sender, &mut slots.enter().expect("a place")).await;
        assert!(matches!(ended, Err(Ended::Failed(_))));
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
        let slot = slots.enter().expect("a place");
        let (sender, receiver) = mpsc::channel(WAITING);
        assert!(slots.enter().is_none(), "there is one place");
        // The client holds its connection and reads nothing.
        send(rows, encoder, sender, slot).await;
        assert!(slots.enter().is_some(), "the place is free again");
        body(receiver).collect().await.expect_err("its body has no end");
    }

    #[tokio::test]
    async fn a_body_without_its_trailers_is_broken_off() {
        let (sender, receiver) = mpsc::channel(WAITING);
        sender.send(data("a row\n")).await.expect("room");
        sender.send(Ok(Frame::trailers(HeaderMap::new()))).await.expect("room");
        drop(sender);
        let whole = body(receiver).collect().await.expect("whole");
        assert_eq!(whole.to_bytes(), "a row\n");
        // The sender gave up, or its task has panicked.
        let (sender, receiver) = mpsc::channel(WAITING);
        sender.send(data("a row\n")).await.expect("room");
        drop(sender);
        body(receiver).collect().await.expect_err("broken off");
    }
}
