//! The body of an answer. It is written on the threads for queries, piece by piece, while the query's
//! permit and deadline hold: the server's own threads have messages to take, and only hand bytes on.

use std::{io, time::Duration};

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::{error::DataFusionError, execution::memory_pool::MemoryReservation};
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, timeout_at},
};

use crate::{
    engine::{Sql, too_late},
    error::QueryError,
};

/// Bytes that leave at once, or a little more.
const CHUNK: usize = 256 << 10;

/// Chunks that wait for a client: of an answer that is read slowly about 1 MB is in memory.
const WAITING: usize = 4;

/// Rows that are written as one piece: few enough to notice a deadline in time.
const PIECE: usize = 1024;

/// The bytes of an answer in order. Each piece is written only when it is asked for.
pub type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// A query's answer before its first byte is written.
pub struct Answer<T> {
    /// Facts that are known before the first byte, such as the values of headers.
    pub facts: T,
    /// The body, piece by piece.
    pub pieces: Pieces,
    /// Held until the last piece is on its way.
    pub permit: OwnedSemaphorePermit,
    /// The rows' share of the memory that all queries have; held as long as the permit.
    pub memory: Option<MemoryReservation>,
}

/// The bytes of an answer on their way to a client.
pub enum AnswerBody {
    /// A small answer, whose length is known.
    Whole(Bytes),
    /// Chunks as they are written; an error in place of the end if the answer broke off.
    Chunks(BoxStream<'static, io::Result<Bytes>>),
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Chunks(_) => "Chunks",
        })
    }
}

impl Sql {
    /// Runs a query and begins to send its answer. A client that takes the answer more slowly than the
    /// deadline allows gets a body that is broken off: reading slowly must not hold a permit for longer.
    ///
    /// # Errors
    /// An error of the query before its first byte, or that it took too long.
    pub async fn answer<T, F>(
        &self,
        timeout: Duration,
        work: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<(T, AnswerBody), QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Result<Answer<T>, DataFusionError>, QueryError>> + Send + 'static,
    {
        let deadline = Instant::now() + timeout;
        let sql = self.clone();
        let begun = self.on_threads(async move {
            match work(sql.clone()).await? {
                Ok(Answer { facts, pieces, permit, memory }) => {
                    Ok((facts, begin(pieces, deadline, (permit, memory))))
                }
                // Without the permit: looking for a damaged file may take a while.
                Err(error) => Err(sql.explain(&error).await),
            }
        });
        timeout_at(deadline, begun).await.map_err(|_| too_late("query", timeout))?
    }
}

/// A body of these pieces: at once if they are few, else as they are written.
fn begin(mut pieces: Pieces, deadline: Instant, held: impl Send + 'static) -> AnswerBody {
    // An answer of one chunk needs no task, and its client learns how long it is.
    let first = chunk(&mut pieces).unwrap_or_default();
    let Some(second) = chunk(&mut pieces) else { return AnswerBody::Whole(first.into()) };
    let rest = std::iter::from_fn(move || chunk(&mut pieces));
    let chunks = [first, second].into_iter().chain(rest);
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        send(chunks, &sender, deadline).await;
        drop(held);
    });
    AnswerBody::Chunks(body(receiver).boxed())
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

/// Sends every chunk that can be sent before the deadline.
async fn send(
    chunks: impl Iterator<Item = Vec<u8>> + Send,
    sender: &mpsc::Sender<Chunk>,
    deadline: Instant,
) {
    let mut chunks = chunks.peekable();
    while let Some(bytes) = chunks.next() {
        let is_last = chunks.peek().is_none();
        // `timeout_at` does not help here: with room in the channel a send succeeds whatever the time is.
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

/// The chunks of a channel. They end only after the last one: a channel that is closed because its
/// sender gave up would otherwise look like a complete answer.
fn body(receiver: mpsc::Receiver<Chunk>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Chunk { bytes, is_last }) => Some((Ok(bytes), (!is_last).then_some(receiver))),
            None => Some((Err(io::Error::other("the answer broke off")), None)),
        }
    })
}

/// Rows in pieces, each written when it is asked for.
pub fn pieces_of(
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

/// A JSON object with a list in it, such as a page: the fields before the list, its items in pieces, and
/// the fields after it, which are computed once the items are written.
pub fn object_with(
    before: &Value,
    list: &str,
    items: impl Iterator<Item = Vec<u8>> + Send + 'static,
    after: impl FnOnce() -> Value + Send + 'static,
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
        let fields = after().to_string();
        format!("],{}", fields.strip_prefix('{').unwrap_or(&fields)).into_bytes()
    });
    Box::new(std::iter::once(head).chain(items).chain(tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::permit_of;
    use serde_json::json;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    impl AnswerBody {
        async fn collect(self) -> io::Result<Vec<u8>> {
            match self {
                Self::Whole(bytes) => Ok(bytes.to_vec()),
                Self::Chunks(chunks) => {
                    let chunks: Vec<io::Result<Bytes>> = chunks.collect().await;
                    Ok(chunks.into_iter().collect::<io::Result<Vec<_>>>()?.concat())
                }
            }
        }
    }

    const SOON: Duration = Duration::from_secs(60);

    async fn permit() -> OwnedSemaphorePermit {
        permit_of(&Arc::new(Semaphore::new(1))).await.expect("a turn")
    }

    fn many(pieces: usize) -> Pieces {
        Box::new((0..pieces).map(|_| vec![b'x'; CHUNK / 2]))
    }

    #[tokio::test]
    async fn a_large_answer_comes_whole_and_a_small_one_says_how_long_it_is() {
        for count in [0, 1, 2, 3, 40] {
            let body = begin(many(count), Instant::now() + SOON, permit().await);
            assert_eq!(matches!(body, AnswerBody::Whole(_)), count < 3, "{count}");
            let whole = body.collect().await.expect("whole");
            assert_eq!(whole.len(), count * (CHUNK / 2), "{count}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_a_permit_no_longer_than_the_deadline() {
        let permits = Arc::new(Semaphore::new(1));
        let held = permit_of(&permits).await.expect("a turn");
        let body = begin(many(400), Instant::now() + Duration::from_millis(50), held);
        let next = tokio::time::timeout(SOON, permit_of(&permits)).await;
        drop(next.expect("in time").expect("a turn"));
        body.collect().await.expect_err("broken off");
    }

    #[tokio::test]
    async fn a_writer_that_panics_breaks_the_body_off() {
        let broken = (0..40).map(|n| if n < 20 { vec![b'x'; CHUNK] } else { panic!("a bug") });
        let body = begin(Box::new(broken), Instant::now() + SOON, permit().await);
        body.collect().await.expect_err("broken off");
    }

    #[tokio::test]
    async fn an_answer_whose_client_is_gone_is_written_no_further() {
        let permits = Arc::new(Semaphore::new(1));
        let held = permit_of(&permits).await.expect("a turn");
        let endless: Pieces = Box::new(std::iter::repeat_with(|| vec![b'x'; CHUNK]));
        drop(begin(endless, Instant::now() + SOON, held));
        let next = tokio::time::timeout(SOON, permit_of(&permits)).await;
        drop(next.expect("in time").expect("a turn"));
    }

    #[tokio::test]
    async fn nothing_is_sent_after_the_deadline_even_if_there_is_room() {
        let body = begin(many(20), Instant::now(), permit().await);
        body.collect().await.expect_err("broken off");
    }

    #[tokio::test]
    async fn a_permit_is_held_until_the_last_chunk_is_on_its_way() {
        let permits = Arc::new(Semaphore::new(1));
        let held = permit_of(&permits).await.expect("a turn");
        let body = begin(many(2 * (WAITING + 3)), Instant::now() + SOON, held);
        // The client has taken nothing: more chunks are left than the channel takes.
        tokio::task::yield_now().await;
        assert_eq!(permits.available_permits(), 0);
        body.collect().await.expect("whole");
        let next = tokio::time::timeout(SOON, permit_of(&permits)).await;
        drop(next.expect("in time").expect("a turn"));
    }

    #[test]
    fn rows_are_cut_into_pieces_in_their_order() {
        let batch = |from: i64, rows: i64| {
            let numbers = arrow::array::Int64Array::from_iter_values(from..from + rows);
            RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).expect("rows")
        };
        let batches = vec![batch(0, 0), batch(0, 1), batch(1, 2500), batch(2501, 1024)];
        let lines = crate::encode::Lines::arrays();
        let pieces = pieces_of(batches, move |rows, out| lines.write(rows, out));
        let texts: Vec<String> = pieces.map(|p| String::from_utf8(p).expect("text")).collect();
        let rows: Vec<usize> = texts.iter().map(|text| text.matches('[').count()).collect();
        assert_eq!(rows, [1, 1024, 1024, 452, 1024]);
        let all: Vec<Vec<i64>> =
            serde_json::from_str(&format!("[{}]", texts.join(","))).expect("JSON");
        assert!(all.iter().zip(0..).all(|(row, n)| row == &[n]), "each once, in order");
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
