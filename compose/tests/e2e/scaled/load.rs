//! Devices that publish to Mosquitto whatever happens behind it, and the check of what became of their
//! readings.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use acuvim_simulator::mqtt::Connection;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{PATIENCE, Server, T0, connect, reading},
    stack::{Stack, readings_stored},
};

/// A device and the time of one of its readings.
type Reading = (String, i64);

/// The readings sent, and when the broker acknowledged each, if it did.
type Sent = BTreeMap<Reading, Option<Instant>>;

pub struct Load {
    devices: Vec<tokio::task::JoinHandle<()>>,
    sent: Arc<Mutex<Sent>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts devices, each with one message in flight and a pause after it.
    pub fn start(broker: SocketAddr, devices: u32, pause: Duration) -> Self {
        let (sent, stop) = (Arc::default(), CancellationToken::new());
        let devices = (0..devices)
            .map(|n| tokio::spawn(device(broker, n, pause, Arc::clone(&sent), stop.clone())))
            .collect();
        Self { devices, sent, stop }
    }

    /// Sends one reading of a new device; fails if the broker does not accept it soon.
    pub async fn once(broker: SocketAddr, id: &str) -> bool {
        let publish = async {
            let connection = Connection::open(&connect(broker, id)).await?;
            let topic = format!("acuvim/{id}/telemetry");
            connection.publish(&topic, reading(T0), false).await
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), publish).await, Ok(Ok(())))
    }

    pub fn acknowledged(&self) -> usize {
        self.sent.lock().expect("sent").values().flatten().count()
    }

    /// Stops the devices; returns what they sent.
    pub async fn stop(self) -> Sent {
        self.stop.cancel();
        for device in self.devices {
            device.await.expect("device");
        }
        Arc::into_inner(self.sent).expect("the last").into_inner().expect("sent")
    }
}

async fn device(
    broker: SocketAddr,
    number: u32,
    pause: Duration,
    sent: Arc<Mutex<Sent>>,
    stop: CancellationToken,
) {
    let id = format!("dev-{number}");
    let topic = format!("acuvim/{id}/telemetry");
    let mut connection: Option<Connection> = None;
    let mut n = 0_i64;
    while !stop.is_cancelled() {
        let Some(open) = &connection else {
            connection = Connection::open(&connect(broker, &id)).await.ok();
            if connection.is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            continue;
        };
        // Some late readings and repetitions among the live ones.
        let ts = match n % 10 {
            5 => T0 - 86_400_000 - n * 1000,
            9 => T0 + (n - 2) * 1000,
            _ => T0 + n * 1000,
        };
        sent.lock().expect("sent").entry((id.clone(), ts)).or_default();
        // A broker that hangs is treated like one that is gone.
        let published = open.publish(&topic, reading(ts), false);
        let published = tokio::time::timeout(Duration::from_secs(20), published).await;
        if matches!(published, Ok(Ok(()))) {
            let now = Some(Instant::now());
            sent.lock().expect("sent").insert((id.clone(), ts), now);
            n += 1;
            tokio::time::sleep(pause).await;
        } else {
            connection = None;
        }
    }
}

/// Waits until the tables have what the log has. Then checks that each reading of the log (and so each one
/// that we have acknowledged) is stored once, that nothing else is stored, and that nothing which Mosquitto
/// has acknowledged is missing, except for what it may have lost itself.
pub async fn verify(
    stack: &Stack,
    query: &Server,
    sent: &Sent,
    may_be_lost: impl Fn(Instant) -> bool,
) {
    let begun = Instant::now();
    let (log, stored) = loop {
        let log = stack.readings_in_log().await;
        let stored = readings_stored(query).await;
        let all_there = log.keys().all(|reading| stored.contains_key(reading));
        let all_in = sent.iter().all(|(reading, acknowledged)| {
            log.contains_key(reading) || acknowledged.is_none_or(&may_be_lost)
        });
        if (all_there && all_in) || begun.elapsed() > 2 * PATIENCE {
            break (log, stored);
        }
        crate::harness::pause(begun).await;
    };
    let mut faults = Vec::new();
    for (reading, at) in sent {
        if !log.contains_key(reading) && at.is_some_and(|at| !may_be_lost(at)) {
            faults.push(format!("{reading:?} was acknowledged and never came into the log"));
        }
    }
    for reading in log.keys() {
        let times = stored.get(reading).copied().unwrap_or(0);
        if times != 1 {
            faults.push(format!("{reading:?} is in the log and stored {times} times"));
        }
    }
    for reading in stored.keys().filter(|reading| !sent.contains_key(reading)) {
        faults.push(format!("{reading:?} was never sent"));
    }
    println!("{} sent, {} in the log, {} stored", sent.len(), log.len(), stored.len());
    let shown = &faults[..faults.len().min(10)];
    assert!(faults.is_empty(), "{} faults: {shown:#?}", faults.len());
}

/// Allows the warnings about unavailable components, which these tests cause.
pub fn expect_outages(server: &mut Server) {
    for line in [
        "the broker is away",
        "away; trying again",
        "the log takes nothing",
        "is away; the start waits for it",
        "compaction failed; it is tried again",
        "cleaning failed; it is tried again",
        "the bridge was still busy",
        "the last flush was not done in time",
        // delta-rs catches this panic over a half-written file, but its message is printed.
        "buffered.rs",
    ] {
        server.expect(line);
    }
}
