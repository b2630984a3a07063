//! One client's conversation with the hub, whichever transport carries it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::{Records, Said, close, completion, greeting, handshake, ping, said};
use crate::{
    App,
    live::{Closing, Connection, Outlet, Subscribe, Unsubscribe},
};

/// See the module.
pub(crate) struct Session {
    app: Arc<App>,
    outlet: Outlet,
    records: Records,
    greeted: bool,
    opened: Instant,
    /// When the client was last heard, and last told something.
    heard: Instant,
    told: Instant,
    /// Records that it may send now, and when that was reckoned.
    allowance: f64,
    refilled: Instant,
}

/// The last bytes of a conversation.
#[derive(Debug)]
pub(crate) struct LastWords(pub Vec<u8>);

impl Session {
    pub fn new(app: &Arc<App>, outlet: Outlet) -> Self {
        let (app, now) = (Arc::clone(app), Instant::now());
        let records = Records::new(app.hub.limits.record_bytes);
        let allowance = burst(app.hub.limits.records_per_second);
        let (opened, heard, told, greeted) = (now, now, now, false);
        Self { app, outlet, records, greeted, opened, heard, told, allowance, refilled: now }
    }

    /// Takes what the client sent; answers with what it is told at once.
    pub async fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, LastWords> {
        let limits = &self.app.hub.limits;
        let records = self.records.push(bytes).map_err(|_| {
            let most = limits.record_bytes >> 10;
            self.last(&Closing::for_good(format!("a record is larger than {most} KB")))
        })?;
        let rate = f64::from(limits.records_per_second);
        let since = std::mem::replace(&mut self.refilled, Instant::now()).elapsed().as_secs_f64();
        self.allowance = (self.allowance + since * rate).min(burst(limits.records_per_second));
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

    async fn record(&mut self, record: &[u8]) -> Result<Vec<u8>, LastWords> {
        if !self.greeted {
            return match handshake(record) {
                Ok(()) => {
                    self.greeted = true;
                    self.outlet.begin_grace();
                    Ok(greeting(None))
                }
                Err(error) => Err(LastWords(greeting(Some(&error)))),
            };
        }
        match said(record) {
            Ok(Said::Call { id, method, arguments }) => {
                let outcome = self.call(&method, arguments).await;
                Ok(id.map(|id| completion(&id, outcome)).unwrap_or_default())
            }
            Ok(Said::Stream { id, method }) => {
                Ok(completion(&id, Err(format!("`{method}` is not a method that streams"))))
            }
            Ok(Said::Ping | Said::Other) => Ok(Vec::new()),
            Ok(Said::Close) => Err(LastWords(close(None, false))),
            Err(error) => Err(LastWords(close(Some(&error), false))),
        }
    }

    async fn call(&mut self, method: &str, arguments: Vec<Value>) -> Result<Value, String> {
        // Method names are compared as the clients' own server does.
        match method.to_ascii_lowercase().as_str() {
            "subscribe" => self.subscribe(argument(arguments)?).await,
            "unsubscribe" => {
                let Unsubscribe { device_ids, group_ids } = argument(arguments)?;
                let connection = self.outlet.connection();
                let all = device_ids.is_empty() && group_ids.is_empty();
                let left = connection.out().unsubscribe(&device_ids, &group_ids, all);
                // What covers what is left is another now.
                crate::live::refresh_one(&self.app, connection).await;
                self.outlet.end_grace();
                Ok(json!({"subscriptions": left}))
            }
            _ => Err(format!("there is no method `{method}`: there are Subscribe and Unsubscribe")),
        }
    }

    async fn subscribe(&mut self, asked: Subscribe) -> Result<Value, String> {
        let since = asked.since()?;
        let connection = Arc::clone(self.outlet.connection());
        if since.is_some() && !connection.out().is_default() {
            return Err("`since` goes with a connection's first subscription".to_owned());
        }
        let (what, covers) = asked.covers(&self.app, &connection).await?;
        // First what may fail: the client can ask for the same again.
        if let Some(since) = since {
            self.outlet.resume(&since).await.map_err(|error| {
                tracing::info!(%error, "a live client that came again met a log that is away");
                "the log is away; try again".to_owned()
            })?;
        }
        let number = connection.out().subscribe(what, covers)?;
        self.outlet.tell_positions(asked.positions);
        self.outlet.end_grace();
        let position = connection.position(&connection.joined);
        Ok(json!({"subscription": number, "position": position.encode()}))
    }

    /// Waits for what the client is told next. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Vec<u8>, LastWords> {
        let limits = &self.app.hub.limits;
        let connection = Arc::clone(self.outlet.connection());
        if !self.greeted {
            let deadline = self.opened + limits.handshake;
            return tokio::select! {
                closing = connection.closed() => Err(LastWords(greeting(Some(&closing.reason)))),
                () = tokio::time::sleep_until(deadline.into()) => {
                    Err(LastWords(greeting(Some("no handshake came in time"))))
                }
            };
        }
        let (silent, pinged) = (self.heard + limits.silence, self.told + limits.ping);
        let next = tokio::select! {
            biased;
            closing = connection.closed() => return Err(self.last(&closing)),
            () = tokio::time::sleep_until(silent.into()) => {
                return Err(self.last(&Closing::again("nothing was heard from the client for long")));
            }
            bytes = self.outlet.next() => bytes,
            () = tokio::time::sleep_until(pinged.into()) => Vec::new(),
        };
        let next = match next.is_empty() {
            true => [ping(), self.outlet.idle().unwrap_or_default()].concat(),
            false => next,
        };
        self.told = Instant::now();
        Ok(next)
    }

    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(self.outlet.connection())
    }

    /// How long a client may take to take what is written.
    pub fn send_time(&self) -> Duration {
        self.app.hub.limits.send
    }

    fn last(&self, closing: &Closing) -> LastWords {
        match self.greeted {
            true => LastWords(close(Some(&closing.reason), closing.come_again)),
            false => LastWords(greeting(Some(&closing.reason))),
        }
    }
}

/// Records that may come at once.
fn burst(per_second: u32) -> f64 {
    f64::from(per_second) * 10.0
}

/// The one argument of a method; absent it is empty.
fn argument<T: DeserializeOwned + Default>(arguments: Vec<Value>) -> Result<T, String> {
    let mut arguments = arguments.into_iter();
    match (arguments.next(), arguments.next()) {
        (None | Some(Value::Null), None) => Ok(T::default()),
        (Some(one), None) => serde_json::from_value(one).map_err(|error| error.to_string()),
        (_, Some(_)) => Err("it takes one argument, an object".to_owned()),
    }
}
