//! An answer as it leaves: written on the threads for queries, piece by piece, while its query's permit
//! and deadline hold. The server's own threads have messages to take, and only hand the pieces on.

use std::{sync::Arc, time::Duration};

use acuvim_schemas::problem::Code;
use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use datafusion::{error::DataFusionError, execution::memory_pool::MemoryReservation};
use futures::stream;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::run::explain;
use crate::{App, problem::ApiError};

/// Bytes that leave at once, or a little more.
const CHUNK: usize = 256 << 10;

/// Chunks that wait for a client.
const WAITING: usize = 4;

/// Rows that are written as one piece: few enough to notice a deadline in time.
const PIECE: usize = 1024;

/// The bytes of an answer in their order; each piece is written when it is asked for.
pub(crate) type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// What a query has found.
pub(crate) struct Found<T> {
    /// What is said before the first byte.
    pub facts: T,
    pub pieces: Pieces,
    /// Held until the last piece is on its way.
    pub permit: OwnedSemaphorePermit,
    /// The same of the memory that its rows take of what all queries have.
    pub memory: Option<MemoryReservation>,
}

/// Waits for a turn among those that may run at a time.
pub(crate) async fn turn(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    let stopping = |_| ApiError::new(Code::Unavailable, "the server is stopping");
    Arc::clone(of).acquire_owned().await.map_err(stopping)
}

/// Runs a query and begins to send its answer. A client that takes the answer more slowly than the
/// deadline allows gets a body that is broken off: a permit is not held for longer, whoever reads.
pub(crate) async fn as_answer<T, F>(
    app: &Arc<App>,
    timeout: Duration,
    work: impl FnOnce(Arc<App>) -> F + Send + 'static,
) -> Result<(T, Body), ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<Result<Found<T>, DataFusionError>, ApiError>> + Send + 'static,
{
    let deadline = Instant::now() + timeout;
    let threads = app.threads.handle();
    let app = Arc::clone(app);
    // Dropped, by the deadline or because nobody waits any more, it ends the query.
    let begun = AbortOnDropHandle::new(threads.spawn(async move {
        match work(Arc::clone(&app)).await? {
            Ok(Found { facts, pieces, permit, memory }) => {
                Ok((facts, begin(pieces, deadline, (permit, memory))))
            }
            // Looked into without the permit: it may take a while.
            Err(error) => Err(explain(&app, &error).await),
        }
    }));
    let late = |_| {
        let detail = format!("the query took longer than {} ms", timeout.as_millis());
        ApiError::new(Code::DeadlineExceeded, detail)
    };
    let begun = timeout_at(deadline, begun).await.map_err(late)?;
    begun.map_err(|e| ApiError::internal(&e))?
}

/// A body of these pieces: at once if they are few, else as they are written.
fn begin(mut pieces: Pieces, deadline: Instant, held: impl Send + 'static) -> Body {
    let first = chunk(&mut pieces).unwrap_or_default();
    let Some(second) = chunk(&mut pieces) else { return Body::from(first) };
    let rest = std::iter::from_fn(move || chunk(&mut pieces));
    let chunks = [first, second].into_iter().chain(rest);
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        send(chunks, &sender, deadline).await;
        drop(held);
    });
    body(receiver)
}

fn chunk(pieces: &mut Pieces) -> Option<Vec<u8>> {
    let mut chunk = pieces.next()?;
    while chunk.len() < CHUNK
        && let Some(piece) = pieces.next()
    {
        chunk.extend_from_slice(&piece);
    }
    Some(chunk)
}

struct Chunk {
    bytes: Bytes,
    is_last: bool,
}

/// Sends everything, as far as the deadline allows.
async fn send(
    chunks: impl Iterator<Item = Vec<u8>> + Send,
    sender: &mpsc::Sender<Chunk>,
    deadline: Instant,
) {
    let mut chunks = chunks.peekable();
    while let Some(bytes) = chunks.next() {
        let is_last = chunks.peek().is_none();
        // Where there is room a send is done at once, whatever the time is.
        if Instant::now() >= deadline {
            tracing::info!("an answer broke off: it was not written by the query's deadline");
            return;
        }
        let chunk = Chunk { bytes: bytes.into(), is_last };
        match timeout_at(deadline, sender.send(chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("an answer broke off: its client has not taken it in time");
                return;
            }
        }
    }
}

/// A body that ends whole only behind the last chunk: an ended channel looks like an ended answer.
fn body(receiver: mpsc::Receiver<Chunk>) -> Body {
    Body::from_stream(stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Chunk { bytes, is_last }) => Some((Ok(bytes), (!is_last).then_some(receiver))),
            None => Some((Err(std::io::Error::other("the answer broke off")), None)),
        }
    }))
}

/// Rows in pieces, each written when it is asked for.
pub(crate) fn pieces_of(
    batches: Vec<RecordBatch>,
    write: impl Fn(&RecordBatch, &mut Vec<u8>) + Send + 'static,
) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let parts = batches.into_iter().flat_map(|batch| {
        let rows = batch.num_rows();
        (0..rows).step_by(PIECE).map(move |at| batch.slice(at, PIECE.min(rows - at)))
    });
    parts.map(move |part| {
        let mut out = Vec::new();
        write(&part, &mut out);
        out
    })
}

/// A JSON object with a list in it: its fields before the list, the list's items in pieces, and its
/// fields behind, which are known once the items are written.
pub(crate) fn object_with(
    before: &Value,
    list: &str,
    items: impl Iterator<Item = Vec<u8>> + Send + 'static,
    behind: impl FnOnce() -> Value + Send + 'static,
) -> Pieces {
    let before = before.to_string();
    let fields = before.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let fields = fields.unwrap_or_default();
    let comma = if fields.is_empty() { "" } else { "," };
    let head = format!("{{{fields}{comma}\"{list}\":[").into_bytes();
    let items = items.enumerate().map(|(n, mut piece)| {
        if n > 0 {
            piece.insert(0, b',');
        }
        piece
    });
    let tail = std::iter::once_with(move || {
        let fields = behind().to_string();
        format!("],{}", fields.strip_prefix('{').unwrap_or(&fields)).into_bytes()
    });
    Box::new(std::iter::once(head).chain(items).chain(tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::json;

    const SOON: Duration = Duration::from_secs(60);

    async fn permit() -> OwnedSemaphorePermit {
        turn(&Arc::new(Semaphore::new(1))).await.expect("a turn")
    }

    fn many(pieces: usize) -> Pieces {
        Box::new((0..pieces).map(|_| vec![b'x'; CHUNK / 2]))
    }

    #[tokio::test]
    async fn a_large_answer_comes_whole_and_a_small_one_says_how_long_it_is() {
        for count in [0, 1, 2, 3, 40] {
            let body = begin(many(count), Instant::now() + SOON, permit().await);
            let said = http_body::Body::size_hint(&body).exact();
            assert_eq!(said.is_some(), count < 3, "{count}");
            let whole = body.collect().await.expect("whole").to_bytes();
            assert_eq!(whole.len(), count * (CHUNK / 2), "{count}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_a_permit_no_longer_than_the_deadline() {
        let permits = Arc::new(Semaphore::new(1));
        let held = turn(&permits).await.expect("a turn");
        let body = begin(many(400), Instant::now() + Duration::from_millis(50), held);
        let next = tokio::time::timeout(SOON, turn(&permits)).await;
        drop(next.expect("in time").expect("a turn"));
        body.collect().await.expect_err("broken off");
    }

    #[tokio::test]
    async fn a_writer_that_panics_breaks_the_body_off() {
        let broken = (0..40).map(|n| if n < 20 { vec![b'x'; CHUNK] } else { panic!("a bug") });
        let body = begin(Box::new(broken), Instant::now() + SOON, permit().await);
        body.collect().await.expect_err("broken off");
    }

    #[test]
    fn a_list_stands_between_the_other_fields() {
        let text = |before: &Value, items: Vec<&'static str>| {
            let items = items.into_iter().map(|item| item.as_bytes().to_vec());
            let pieces = object_with(before, "rows", items, || json!({ "count": 2 }));
            let bytes: Vec<u8> = pieces.flatten().collect();
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(text(&json!({}), vec![]), r#"{"rows":[],"count":2}"#);
        let some = text(&json!({"a": {"b": {}}}), vec!["1,2", "3"]);
        assert_eq!(some, r#"{"a":{"b":{}},"rows":[1,2,3],"count":2}"#);
    }
}
