//! Streams of server-sent events: the API's own, and those of the hub.

use std::{convert::Infallible, sync::Arc, time::Duration};

use acuvim_query_live::{
    ConnectionWriter,
    signalr::{Inbox, LastBytes, Session},
    sse_writer,
};
use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _, stream};

/// How often an idle stream gets a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream of events that ends with its connection.
pub(crate) fn event_stream(writer: ConnectionWriter, patience: Duration) -> Response {
    let connection = Arc::clone(writer.connection());
    let pieces = stream::unfold(writer, |mut writer| async {
        let connection = Arc::clone(writer.connection());
        let bytes = tokio::select! {
            // A connection that was closed, such as by a logout, must not get the event that is ready too.
            biased;
            _ = connection.closed() => return None,
            bytes = writer.next() => bytes,
            () = tokio::time::sleep(KEEP_ALIVE) => Vec::new(),
        };
        let bytes = match bytes.is_empty() {
            true => writer.idle().unwrap_or_else(|| b":\n\n".to_vec()),
            false => bytes,
        };
        Some((Bytes::from(bytes), writer))
    });
    response(sse_writer(connection, pieces, patience))
}

/// Serves a session of the hub, whose client sends its records in requests of their own.
pub(crate) fn accept(session: Session, inbox: Inbox) -> Response {
    let (connection, patience) = (session.connection(), session.send_time());
    let first = stream::once(async { Bytes::from_static(b":\r\n\r\n") });
    let rest = stream::unfold(Some((session, inbox)), |state| async {
        let (mut session, mut inbox) = state?;
        let (bytes, more) = match inbox.next(&mut session).await {
            Ok(bytes) => (bytes, true),
            Err(LastBytes(bytes)) => (bytes, false),
        };
        let event = [b"data: ", bytes.as_slice(), b"\r\n\r\n"].concat();
        Some((Bytes::from(event), more.then_some((session, inbox))))
    });
    response(sse_writer(connection, first.chain(rest), patience))
}

fn response(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
