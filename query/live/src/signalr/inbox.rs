//! What clients send to the hub in requests of their own, where its transport is server-sent events.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::session::{LastBytes, Session};

/// Requests that wait for a session.
const WAITING: usize = 2;

/// How long a request waits for a session that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The inboxes of sessions, by connection token. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Inboxes(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    /// The user or key that may send to the session.
    caller: Uuid,
    sender: mpsc::Sender<Bytes>,
}

/// What became of a request to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The session has it.
    Done,
    /// This caller has no session of that token.
    Unknown,
    /// The session is too busy to take it.
    Busy,
}

impl Inboxes {
    /// Hands what a client sent to its session.
    pub async fn deliver(&self, token: &str, caller: Uuid, bytes: Bytes) -> Delivery {
        // A copy of the sender: the lock is not held while the session is waited for.
        let found = self.lock().get(token).filter(|entry| entry.caller == caller).cloned();
        let Some(entry) = found else { return Delivery::Unknown };
        match tokio::time::timeout(PATIENCE, entry.sender.send(bytes)).await {
            Ok(Ok(())) => Delivery::Done,
            Ok(Err(_)) => Delivery::Unknown,
            Err(_) => Delivery::Busy,
        }
    }

    /// Opens an inbox; none if there is one of that token.
    #[must_use]
    pub fn open(&self, token: &str, caller: Uuid) -> Option<Inbox> {
        let mut inboxes = self.lock();
        if inboxes.contains_key(token) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        inboxes.insert(token.to_owned(), Entry { caller, sender });
        Some(Inbox { all: self.clone(), token: token.to_owned(), receiver })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inbox of one session; it closes when this is dropped.
#[derive(Debug)]
pub struct Inbox {
    all: Inboxes,
    token: String,
    receiver: mpsc::Receiver<Bytes>,
}

impl Inbox {
    /// Waits for what a session has to write next, and gives it what its client sends meanwhile.
    ///
    /// # Errors
    /// The last bytes of a session that has to end.
    pub async fn next(&mut self, session: &mut Session) -> Result<Vec<u8>, LastBytes> {
        loop {
            let bytes = tokio::select! {
                sent = self.receiver.recv() => match sent {
                    Some(bytes) => session.take(&bytes).await?,
                    None => return Err(LastBytes(Vec::new())),
                },
                next = session.next() => next?,
            };
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.all.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests;
