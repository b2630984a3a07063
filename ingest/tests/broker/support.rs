//! A broker on free ports, with a log in a folder of its own.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_ingest::{
    AcceptLimits, Broker, BrokerOptions, Credentials, CredentialsWatch, DailyLimits, Downlink,
    Intake, IntakeState,
};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Log, LogTopic, ReadLimit};
use acuvim_simulator::mqtt::{ConnectOptions, Connection, Error};
use acuvim_wire::{Kind, Record};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};

const READ: ReadLimit = ReadLimit { records: 1000, bytes: 64 << 20, wait: Duration::ZERO };

pub struct Ingest {
    broker: Broker,
    pub mqtt: SocketAddr,
    pub websocket: SocketAddr,
    pub log: Arc<EmbeddedLog>,
    pub state: watch::Receiver<IntakeState>,
    credentials: watch::Sender<Credentials>,
    _dir: tempfile::TempDir,
}

/// The hash of a secret, as control stores it.
fn hash(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Ingest {
    pub async fn start() -> Self {
        Self::with(BrokerOptions::default(), 0).await
    }

    /// With a log that takes nothing while the disk has less than this many bytes free.
    pub async fn with(options: BrokerOptions, min_free_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let log_options = EmbeddedOptions { min_free_bytes, ..EmbeddedOptions::at(dir.path()) };
        let log = Arc::new(EmbeddedLog::open(log_options).await.expect("a log"));
        let limits = AcceptLimits { topic_prefix: "acuvim".into(), max_payload: 1 << 20 };
        let patience = Duration::from_millis(500);
        let intake = Intake::new(Arc::clone(&log) as _, limits, DailyLimits::default(), patience);
        let state = intake.state();
        let known = Credentials { anonymous: true, secrets: Arc::default() };
        let (credentials, values) = watch::channel(known);
        let downlink = Downlink {
            log: Arc::clone(&log) as _,
            cursor: "test".into(),
            alone: true,
            topic_prefix: "acuvim".into(),
            held_until: None,
        };
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let at = |n: usize| listeners[n].local_addr().expect("an address");
        let (mqtt, websocket) = (at(0), at(1));
        let second = listeners.pop();
        let first = listeners.pop().expect("two listeners");
        let watch = CredentialsWatch { values, look: Arc::new(Notify::new()) };
        let broker = Broker::start(&options, first, second, Arc::new(intake), watch, &downlink);
        Self { broker, mqtt, websocket, log, state, credentials, _dir: dir }
    }

    /// Gives a device a secret, or disables it.
    pub fn set_secret(&self, device: &str, secret: Option<&str>) {
        self.credentials.send_modify(|known| {
            let mut secrets: HashMap<_, _> = known.secrets.as_ref().clone();
            secrets.insert(device.to_owned(), secret.map(hash));
            known.secrets = Arc::new(secrets);
        });
    }

    pub fn options(&self, client_id: &str) -> ConnectOptions {
        ConnectOptions {
            host: self.mqtt.ip().to_string(),
            port: self.mqtt.port(),
            client_id: client_id.to_owned(),
            login: None,
            will: None,
            subscribe: None,
        }
    }

    pub async fn anonymous(&self, client_id: &str) -> Connection {
        Connection::open(&self.options(client_id)).await.expect("a connection")
    }

    pub async fn login(&self, device: &str, secret: &str) -> Result<Connection, Error> {
        let login = Some((device.to_owned(), secret.to_owned()));
        Connection::open(&ConnectOptions { login, ..self.options(device) }).await
    }

    /// All records of the uplink but pulses, partition by partition.
    pub async fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for partition in 0..self.log.partitions() {
            let batch = self.log.read(LogTopic::Uplink, partition, 0, READ).await.expect("a read");
            let read = batch.entries.iter().map(|(_, entry)| Record::try_from(entry));
            records.extend(read.map(|record| record.expect("a record")));
        }
        records.retain(|record| record.headers.kind != Kind::Pulse);
        records
    }

    /// The records once a condition holds for them.
    pub async fn records_when(&self, holds: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let begun = Instant::now();
        loop {
            let records = self.records().await;
            if holds(&records) {
                return records;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{records:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn stop(self) {
        self.broker.stop(Duration::from_secs(10)).await;
    }
}

/// The device and kind of each record, in any order.
pub fn kinds(records: &[Record]) -> Vec<(String, Kind)> {
    let of =
        |record: &Record| (String::from_utf8_lossy(&record.key).into_owned(), record.headers.kind);
    let mut kinds: Vec<_> = records.iter().map(of).collect();
    kinds.sort_by(|a, b| (&a.0, a.1.as_str()).cmp(&(&b.0, b.1.as_str())));
    kinds
}
