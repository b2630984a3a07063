//! One client's session with the hub, whichever transport carries it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::{
    ClientMessage, Records, close, completion, handshake, handshake_reply, parse, ping,
};
use crate::{
    access,
    connection::{Closing, Connection},
    subscribe::{Subscribe, Unsubscribe},
    writer::ConnectionWriter,
};

/// A session of the SignalR hub.
#[derive(Debug)]
pub struct Session {
    writer: ConnectionWriter,
    records: Records,
    /// Whether the handshake is done.
    greeted: bool,
    opened: Instant,
    /// When the client last sent something.
    heard: Instant,
    /// When something was last written to it.
    written: Instant,
    /// Records that the client may send now.
    allowance: f64,
    /// When the allowance was last filled up.
    refilled: Instant,
}

/// The bytes to write before the session ends; none for a client that can't be written to.
#[derive(Debug)]
pub struct LastBytes(pub Vec<u8>);

impl Session {
    /// A session whose handshake is yet to come.
    #[must_use]
    pub fn new(writer: ConnectionWriter) -> Self {
        let (limits, now) = (writer.live().limits(), Instant::now());
        let records = Records::new(limits.record_bytes);
        let allowance = burst(limits.records_per_second);
        Self {
            writer,
            records,
            greeted: false,
            opened: now,
            heard: now,
            written: now,
            allowance,
            refilled: now,
        }
    }

    /// Takes what the client sent, and answers with what to write at once.
    ///
    /// # Errors
    /// The last bytes of a session that has to end.
    pub async fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, LastBytes> {
        let limits = self.writer.live().limits();
        let rate = limits.records_per_second;
        let most = limits.record_bytes >> 10;
        let records = self.records.push(bytes).map_err(|_| {
            self.last(&Closing::for_good(format!("a record is larger than {most} KB")))
        })?;
        let since = std::mem::replace(&mut self.refilled, Instant::now()).elapsed().as_secs_f64();
        // A token bucket: what was not used up to now may be sent at once, up to a bound.
        self.allowance = (self.allowance + since * f64::from(rate)).min(burst(rate));
        // Whole records count: a client that never ends its record is as silent as one that sends nothing.
        if !records.is_empty() {
            self.heard = Instant::now();
        }
        let mut answers = Vec::new();
        for record in records {
            self.allowance -= 1.0;
            if self.allowance < 0.0 {
                return Err(self.last(&Closing::for_good("too many messages: send fewer")));
            }
            answers.extend(self.record(&record).await?);
        }
        Ok(answers)
    }

    async fn record(&mut self, record: &[u8]) -> Result<Vec<u8>, LastBytes> {
        if !self.greeted {
            return match handshake(record) {
                Ok(()) => {
                    self.greeted = true;
                    self.writer.begin_grace();
                    Ok(handshake_reply(None))
                }
                Err(error) => Err(LastBytes(handshake_reply(Some(&error)))),
            };
        }
        match parse(record) {
            Ok(ClientMessage::Call { id, method, arguments }) => {
                let outcome = self.call(&method, arguments).await;
                Ok(id.map(|id| completion(&id, outcome)).unwrap_or_default())
            }
            Ok(ClientMessage::Stream { id, method }) => {
                Ok(completion(&id, Err(format!("`{method}` is not a method that streams"))))
            }
            Ok(ClientMessage::Ping | ClientMessage::Other) => Ok(Vec::new()),
            Ok(ClientMessage::Close) => Err(LastBytes(close(None, false))),
            Err(error) => Err(LastBytes(close(Some(&error), false))),
        }
    }

    async fn call(&mut self, method: &str, arguments: Vec<Value>) -> Result<Value, String> {
        // In any case, as the server that these clients are made for compares method names.
        match method.to_ascii_lowercase().as_str() {
            "subscribe" => self.subscribe(argument(arguments)?).await,
            "unsubscribe" => {
                let Unsubscribe { device_ids, group_ids } = argument(arguments)?;
                let connection = self.writer.connection();
                let all = device_ids.is_empty() && group_ids.is_empty();
                let left = connection.out().unsubscribe(&device_ids, &group_ids, all);
                // The subscriptions that are left cover fewer devices now.
                access::refresh_one(self.writer.live(), connection).await;
                self.writer.end_grace();
                Ok(json!({"subscriptions": left}))
            }
            _ => Err(format!("there is no method `{method}`: there are Subscribe and Unsubscribe")),
        }
    }

    async fn subscribe(&mut self, subscribe: Subscribe) -> Result<Value, String> {
        let since = subscribe.since()?;
        let connection = Arc::clone(self.writer.connection());
        if since.is_some() && !connection.out().is_default() {
            return Err("`since` goes with a connection's first subscription".to_owned());
        }
        let selection = subscribe.selection(self.writer.live(), &connection).await?;
        // What may fail comes before any change, so that the client can try the same again.
        connection.out().check_room(&selection.filter)?;
        if let Some(since) = since {
            self.writer.resume(&since).await.map_err(|error| {
                tracing::info!(%error, "a live client that came again could not reach the log");
                "the log is away; try again".to_owned()
            })?;
        }
        let number = connection.out().subscribe(selection.filter, selection.covers)?;
        self.writer.send_positions(subscribe.positions);
        self.writer.end_grace();
        let position = connection.position(&connection.joined);
        Ok(json!({"subscription": number, "position": position.encode()}))
    }

    /// Waits for what to write next. May be dropped while it waits.
    ///
    /// # Errors
    /// The last bytes of a session that has to end.
    pub async fn next(&mut self) -> Result<Vec<u8>, LastBytes> {
        let limits = self.writer.live().limits();
        let (silence, ping_interval) = (limits.silence, limits.ping);
        let connection = Arc::clone(self.writer.connection());
        if !self.greeted {
            let deadline = self.opened + limits.handshake;
            return tokio::select! {
                closing = connection.closed() => {
                    Err(LastBytes(handshake_reply(Some(&closing.reason))))
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    Err(LastBytes(handshake_reply(Some("no handshake came in time"))))
                }
            };
        }
        let (silent, due) = (self.heard + silence, self.written + ping_interval);
        let next = tokio::select! {
            biased;
            // The end comes first: a client for which something is always due would not hear of it.
            closing = connection.closed() => return Err(self.last(&closing)),
            () = tokio::time::sleep_until(silent.into()) => {
                return Err(self.last(&Closing::again("nothing was heard from the client for long")));
            }
            bytes = self.writer.next() => bytes,
            () = tokio::time::sleep_until(due.into()) => Vec::new(),
        };
        let next = match next.is_empty() {
            // A client that nothing happens for learns how far it has come, and resumes from there.
            true => [ping(), self.writer.idle().unwrap_or_default()].concat(),
            false => next,
        };
        self.written = Instant::now();
        Ok(next)
    }

    /// The session's connection.
    #[must_use]
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(self.writer.connection())
    }

    /// How long a client may take to accept what is written.
    #[must_use]
    pub fn send_time(&self) -> Duration {
        self.writer.live().limits().send
    }

    fn last(&self, closing: &Closing) -> LastBytes {
        match self.greeted {
            true => LastBytes(close(Some(&closing.reason), closing.reconnect)),
            false => LastBytes(handshake_reply(Some(&closing.reason))),
        }
    }
}

/// Records that may come at once.
fn burst(per_second: u32) -> f64 {
    f64::from(per_second) * 10.0
}

/// The one argument of a method; an absent one is empty.
fn argument<T: DeserializeOwned + Default>(arguments: Vec<Value>) -> Result<T, String> {
    let mut arguments = arguments.into_iter();
    match (arguments.next(), arguments.next()) {
        (None | Some(Value::Null), None) => Ok(T::default()),
        (Some(one), None) => serde_json::from_value(one).map_err(|error| error.to_string()),
        (_, Some(_)) => Err("it takes one argument, an object".to_owned()),
    }
}

#[cfg(test)]
mod tests;
