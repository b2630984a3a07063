//! A stream of server-sent events that does not wait for its client for ever: a task of its own takes
//! what comes next, and ends if the client does not take it in time, or is gone.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::hub::Connection;

/// The body of an answer to a connection. `patience` is how long the client may take to take one
/// piece.
pub(crate) fn pour(
    connection: Arc<Connection>,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    patience: Duration,
) -> Body {
    let write = move |piece, sender: mpsc::Sender<Bytes>| {
        let connection = Arc::clone(&connection);
        async move { connection.write(sender.send_timeout(piece, patience)).await.is_ok() }
    };
    poured(pieces, write)
}

fn poured<F: Future<Output = bool> + Send>(
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    write: impl Fn(Bytes, mpsc::Sender<Bytes>) -> F + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut pieces = pin!(pieces);
        loop {
            let piece = tokio::select! {
                () = sender.closed() => return,
                piece = pieces.next() => piece,
            };
            let Some(piece) = piece else { return };
            if !write(piece, sender.clone()).await {
                return;
            }
        }
    });
    Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::sync::Mutex;

    async fn within(piece: Bytes, sender: mpsc::Sender<Bytes>) -> bool {
        sender.send_timeout(piece, Duration::from_millis(20)).await.is_ok()
    }

    #[tokio::test]
    async fn everything_is_handed_over_in_order() {
        let pieces = stream::iter(["a", "b", "c"]).map(|text| Bytes::from_static(text.as_bytes()));
        let body = poured(pieces, within).collect().await.expect("whole").to_bytes();
        assert_eq!(body, "abc");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go_of() {
        // Dropped with the stream that holds it.
        let held = Arc::new(Mutex::new(()));
        let there = Arc::downgrade(&held);
        let endless =
            stream::unfold(held, |held| async move { Some((Bytes::from_static(b"more"), held)) });
        let _body = poured(endless, within);
        let gone = async {
            while there.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is let go of");
    }
}
