//! The hub over a WebSocket.

use acuvim_query_live::signalr::{LastBytes, Session};
use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};

/// The largest frame, in records: larger than one, so that the session itself can tell the client that a
/// record is too large.
const FRAMES: usize = 4;

/// Buffers of a connection, in bytes: there are thousands of them, and most are idle.
const BUFFER: usize = 4 << 10;

/// Accepts the upgrade, and serves the session.
pub(crate) fn accept(upgrade: WebSocketUpgrade, record_bytes: usize, session: Session) -> Response {
    upgrade
        .max_message_size(record_bytes * FRAMES)
        .max_frame_size(record_bytes * FRAMES)
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .on_upgrade(|socket| serve(socket, session))
}

async fn serve(mut socket: WebSocket, mut session: Session) {
    let (connection, time) = (session.connection(), session.send_time());
    loop {
        let outcome = tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => session.take(text.as_bytes()).await,
                Some(Ok(Message::Binary(bytes))) => session.take(&bytes).await,
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => return,
                // A frame that is too large, or no frame: nothing after it can be read.
                Some(Err(_)) => Err(LastBytes(Vec::new())),
            },
            next = session.next() => next,
        };
        let bytes = match outcome {
            Ok(bytes) if bytes.is_empty() => continue,
            Ok(bytes) => bytes,
            Err(LastBytes(bytes)) => {
                let _ = tokio::time::timeout(time, goodbye(socket, bytes)).await;
                return;
            }
        };
        let sending = tokio::time::timeout(time, socket.send(text(bytes)));
        let sent = connection.write(sending).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn goodbye(mut socket: WebSocket, bytes: Vec<u8>) {
    let code = if bytes.is_empty() { close_code::SIZE } else { close_code::NORMAL };
    if !bytes.is_empty() && socket.send(text(bytes)).await.is_err() {
        return;
    }
    let frame = CloseFrame { code, reason: "".into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
}

fn text(bytes: Vec<u8>) -> Message {
    Message::Text(String::from_utf8(bytes).unwrap_or_default().into())
}
