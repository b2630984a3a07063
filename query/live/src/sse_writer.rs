//! A stream of server-sent events that does not wait for its client for ever. A task of its own takes what
//! comes next, and ends if the client does not accept it in time, or is gone: an HTTP server alone would
//! wait for as long as the connection stays open.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::connection::Connection;

/// The pieces of a connection's stream, each of which the client has to accept within `patience`.
pub fn sse_writer(
    connection: Arc<Connection>,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    patience: Duration,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let write = move |piece, sender: mpsc::Sender<Bytes>| {
        let connection = Arc::clone(&connection);
        async move { connection.write(sender.send_timeout(piece, patience)).await.is_ok() }
    };
    written(pieces, write)
}

fn written<F: Future<Output = bool> + Send>(
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    write: impl Fn(Bytes, mpsc::Sender<Bytes>) -> F + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    // What waits here can't be replaced by a newer reading, so that it is one piece.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut pieces = pin!(pieces);
        loop {
            let piece = tokio::select! {
                // Nothing is written to a client that nothing happens for: its end has to be waited for.
                () = sender.closed() => return,
                piece = pieces.next() => piece,
            };
            let Some(piece) = piece else { return };
            if !write(piece, sender.clone()).await {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    async fn within(piece: Bytes, sender: mpsc::Sender<Bytes>) -> bool {
        sender.send_timeout(piece, Duration::from_millis(20)).await.is_ok()
    }

    #[tokio::test]
    async fn everything_is_handed_over_in_order() {
        let pieces = stream::iter(["a", "b", "c"]).map(|text| Bytes::from_static(text.as_bytes()));
        let all: Vec<Bytes> = written(pieces, within).collect().await;
        assert_eq!(all.concat(), b"abc");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go_of() {
        // Dropped with the stream that holds it.
        let held = Arc::new(Mutex::new(()));
        let there = Arc::downgrade(&held);
        let endless =
            stream::unfold(held, |held| async move { Some((Bytes::from_static(b"more"), held)) });
        let _stream = written(endless, within);
        let gone = async {
            while there.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is let go of");
    }
}
