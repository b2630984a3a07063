//! Live: what happens, as it happens, to whoever is connected.
//!
//! Changes of state come from `acuvim.events`, which every process reads from its end; readings and
//! heartbeats come from the process's own tail, which has them a moment after the log. Both meet in
//! the [`hub`], which hands them to connections: of the SignalR hub, or of server-sent events. What a
//! client missed it reads from the log, behind the position that it names.

mod access;
mod behind;
mod event;
mod feed;
mod hub;
mod outbound;
mod outlet;
mod position;
mod pour;
mod replay;
pub(crate) mod signalr;
mod subscribe;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::App;

pub(crate) use access::{LiveCaller, end_login, refresh_one};
pub(crate) use hub::{Closing, Connection, Hub, Refused};
pub(crate) use outlet::{Outlet, Refusal, Wire};
pub(crate) use position::Position;
pub(crate) use pour::pour;
pub(crate) use subscribe::{Subscribe, Unsubscribe};

/// A client that takes nothing for so long is behind.
const BEHIND: Duration = Duration::from_millis(500);

/// How long connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How much is taken from live clients, and how they are treated.
#[derive(Debug, Clone)]
pub struct LiveLimits {
    /// Connections of this process.
    pub connections: usize,
    /// Of one user or key.
    pub connections_of_caller: usize,
    /// Events that wait for one client; with more of them it is closed.
    pub queue_events: usize,
    /// Bytes that these say; with more of them it is closed too.
    pub queue_bytes: usize,
    /// Devices whose newest reading waits for one client; what is beyond is dropped and counted.
    pub queue_readings: usize,
    /// Subscriptions of a connection.
    pub subscriptions: usize,
    /// Devices and groups in them.
    pub subscribed_devices: usize,
    /// Bytes of one record that a client sends.
    pub record_bytes: usize,
    /// Records a second that a client sends, in the long run; ten times as many at once.
    pub records_per_second: u32,
    /// How often users, keys and their scopes are looked at again.
    pub check_interval: Duration,
    /// How often a device's readings are told to a client that never subscribed.
    pub default_interval: Duration,
    /// How long such a client may take to subscribe, before it is told everything.
    pub grace: Duration,
    /// How long a client may take to shake hands.
    pub handshake: Duration,
    /// How long a client may be silent.
    pub silence: Duration,
    /// How often a client is told that the server is there.
    pub ping: Duration,
    /// How long a client may take to take what is written to it.
    pub send: Duration,
    /// Web pages of these origins may connect, beside our own.
    pub origins: Vec<String>,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            connections: 5000,
            connections_of_caller: 2000,
            queue_events: 20_000,
            queue_bytes: 32 << 20,
            queue_readings: 10_000,
            subscriptions: 50,
            subscribed_devices: 1000,
            record_bytes: 32 << 10,
            records_per_second: 20,
            check_interval: Duration::from_secs(5),
            default_interval: Duration::from_secs(5),
            grace: Duration::from_millis(300),
            handshake: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            send: Duration::from_secs(60),
            origins: Vec::new(),
        }
    }
}

/// Feeds live connections until `stop`, and sees that each is still allowed; then lets them go.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let feeds = async {
        let readers = feed::run(&app);
        let checks = access::run(&app);
        tokio::join!(readers, checks)
    };
    let _: Option<((), ())> = stop.run_until_cancelled(Box::pin(feeds)).await;
    app.hub.close_all(&Closing::again("the server is stopping"));
    let begun = tokio::time::Instant::now();
    while !app.hub.is_empty() && begun.elapsed() < GOODBYE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
