//! The hub over server-sent events, with what the client says in requests of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Session, session::LastWords};
use crate::live::pour;

/// Requests that wait for a session.
const WAITING: usize = 2;

/// How long a request waits for a session that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sessions whose clients send requests of their own, by connection token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inboxes(Arc<Mutex<HashMap<String, Inbox>>>);

/// Where a session takes what its client says.
#[derive(Debug, Clone)]
struct Inbox {
    caller: Uuid,
    sender: mpsc::Sender<Bytes>,
}

/// What became of a request to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The session has it.
    Done,
    /// There is none of that token, of this caller.
    Unknown,
    /// It does not take more.
    Busy,
}

impl Inboxes {
    /// Hands what a client says to its session.
    pub async fn deliver(&self, token: &str, caller: Uuid, bytes: Bytes) -> Delivered {
        let found = self.lock().get(token).filter(|inbox| inbox.caller == caller).cloned();
        let Some(inbox) = found else { return Delivered::Unknown };
        match tokio::time::timeout(PATIENCE, inbox.sender.send(bytes)).await {
            Ok(Ok(())) => Delivered::Done,
            Ok(Err(_)) => Delivered::Unknown,
            Err(_) => Delivered::Busy,
        }
    }

    /// Opens an inbox; none if there is one of that token.
    fn open(&self, token: &str, caller: Uuid) -> Option<Opened> {
        let mut inboxes = self.lock();
        if inboxes.contains_key(token) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        inboxes.insert(token.to_owned(), Inbox { caller, sender });
        Some(Opened { all: self.clone(), token: token.to_owned(), receiver })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Inbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An inbox as long as its session is there.
struct Opened {
    all: Inboxes,
    token: String,
    receiver: mpsc::Receiver<Bytes>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.all.lock().remove(&self.token);
    }
}

/// Serves a session as a stream; none if its token is taken.
pub(crate) fn accept(
    inboxes: &Inboxes,
    token: &str,
    caller: Uuid,
    session: Session,
) -> Option<Response> {
    let inbox = inboxes.open(token, caller)?;
    let (connection, patience) = (session.connection(), session.send_time());
    let first = futures::stream::once(async { Bytes::from_static(b":\r\n\r\n") });
    let rest = futures::stream::unfold(Some((session, inbox)), |state| async {
        let (mut session, mut inbox) = state?;
        let (bytes, more) = next(&mut session, &mut inbox).await;
        let event = [b"data: ", bytes.as_slice(), b"\r\n\r\n"].concat();
        Some((Bytes::from(event), more.then_some((session, inbox))))
    });
    let body = pour(connection, futures::StreamExt::chain(first, rest), patience);
    Some(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// What the client is told next, and whether it is told more.
async fn next(session: &mut Session, inbox: &mut Opened) -> (Vec<u8>, bool) {
    loop {
        let outcome = tokio::select! {
            said = inbox.receiver.recv() => match said {
                Some(bytes) => session.take(&bytes).await,
                None => return (Vec::new(), false),
            },
            next = session.next() => next,
        };
        match outcome {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => return (bytes, true),
            Err(LastWords(bytes)) => return (bytes, false),
        }
    }
}
