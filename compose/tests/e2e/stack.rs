//! The system in several processes, on real Kafka, Mosquitto, PostgreSQL and S3.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::OnceLock,
    time::Duration,
};

use acuvim_log::{KafkaLog, KafkaOptions, Log as _, LogTopic, ReadLimit};
use acuvim_wire::Record;
use serde_json::Value;

use crate::{
    harness::{Server, Starting},
    services::{S3_KEY, S3_SECRET, Services},
};

pub struct Stack {
    /// The services and names of one test.
    pub services: Services,
    pub mqtt: SocketAddr,
    pub kafka: String,
    pub postgres: String,
    pub s3: String,
    /// Prefix of its topics, and its folder in the bucket.
    pub name: String,
}

impl Stack {
    /// Services that the test may kill; Kafka has this many brokers.
    pub async fn own(brokers: u32) -> Self {
        tokio::task::spawn_blocking(move || {
            let services = Services::new();
            let kafka = services.kafka(brokers);
            let mqtt = services.mosquitto().parse().expect("an address");
            let (postgres, s3) = (services.postgres(), services.s3());
            Self { services, mqtt, kafka, postgres, s3, name: Services::unique_name() }
        })
        .await
        .expect("services")
    }

    /// The shared services under names of the test's own, and a Mosquitto of its own.
    pub async fn shared() -> Self {
        tokio::task::spawn_blocking(|| {
            let (services, run) = (Services::new(), run_services());
            let mqtt = services.mosquitto().parse().expect("an address");
            let (kafka, postgres, s3) = (run.kafka(1), run.database(), run.s3());
            Self { services, mqtt, kafka, postgres, s3, name: Services::unique_name() }
        })
        .await
        .expect("services")
    }

    /// The same with a PostgreSQL that the test may kill.
    pub async fn with_own_postgres() -> Self {
        let stack = Self::shared().await;
        let postgres = tokio::task::block_in_place(|| stack.services.postgres());
        Self { postgres, ..stack }
    }

    pub fn lake(&self) -> String {
        format!("s3://acuvim/{}/lake", self.name)
    }

    pub fn kafka_options(&self) -> KafkaOptions {
        KafkaOptions { prefix: self.name.clone(), ..KafkaOptions::at(&self.kafka) }
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.s3.as_str()),
            ("AWS_ACCESS_KEY_ID", S3_KEY),
            ("AWS_SECRET_ACCESS_KEY", S3_SECRET),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ALLOW_HTTP", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    pub fn settings(&self, roles: &str, extra: &[&str]) -> Vec<String> {
        let mut set = vec![
            format!("log.url=kafka://{}", self.kafka),
            format!("mqtt.url=mqtt://{}", self.mqtt),
            format!("control.url={}", self.postgres),
            format!("lake.url={}", self.lake()),
            format!("log.topic_prefix={}", self.name),
            // Short, so that a test does not wait long until a killed process is replaced.
            "log.session_timeout_seconds=3".to_owned(),
            format!("process.roles={roles}"),
            "sql.max_rows=10000000".to_owned(),
        ];
        set.extend(extra.iter().map(|s| (*s).to_owned()));
        set
    }

    /// Starts a process with these roles, without waiting.
    pub fn spawn(&self, name: &str, roles: &str, extra: &[&str]) -> Starting {
        let settings = self.settings(roles, extra);
        let set: Vec<&str> = settings.iter().map(String::as_str).collect();
        Server::spawn(&self.dir(name), &set, &self.environment())
    }

    /// Starts a process with these roles, and waits until it serves.
    pub async fn serve(&self, name: &str, roles: &str, extra: &[&str]) -> Server {
        self.spawn(name, roles, extra).serving().await
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.services.dir().join("acuvim").join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        dir
    }

    /// How often each reading, by device and time, is in Kafka. Everything that we have acknowledged is there.
    pub async fn readings_in_log(&self) -> BTreeMap<(String, i64), usize> {
        let log = KafkaLog::open(self.kafka_options()).await.expect("Kafka");
        let limit = ReadLimit { records: 10_000, bytes: 64 << 20, wait: Duration::ZERO };
        let mut all = BTreeMap::new();
        for partition in 0..4 {
            let mut next = log.bounds(LogTopic::Uplink, partition).await.expect("bounds").start;
            loop {
                let batch = log.read(LogTopic::Uplink, partition, next, limit).await.expect("read");
                if batch.entries.is_empty() {
                    break;
                }
                next = batch.next;
                for (_, entry) in batch.entries {
                    let record = Record::try_from(&entry).expect("ours");
                    let device = String::from_utf8(record.key.to_vec()).expect("text");
                    for item in record.value.split(|byte| *byte == b'\n') {
                        let Ok(item) = serde_json::from_slice::<Value>(item) else { continue };
                        let Some(ts) = item["ts"].as_i64() else { continue };
                        *all.entry((device.clone(), ts)).or_insert(0) += 1;
                    }
                }
            }
        }
        all
    }
}

/// The services shared by all tests of a run; a test that runs alone starts them itself.
fn run_services() -> &'static Services {
    static RUN: OnceLock<Services> = OnceLock::new();
    RUN.get_or_init(Services::of_run)
}

/// How often a server returns each reading.
pub async fn readings_stored(server: &Server) -> HashMap<(String, i64), usize> {
    let rows = server
        .sql("SELECT device_id, CAST(ts AS BIGINT) / 1000, count(*) FROM telemetry GROUP BY 1, 2")
        .await;
    assert!(!rows.truncated);
    let count = |value: &Value| usize::try_from(value.as_i64().expect("n")).expect("small");
    rows.rows
        .iter()
        .map(|row| {
            let device = row[0].as_str().expect("text").to_owned();
            ((device, row[1].as_i64().expect("a number")), count(&row[2]))
        })
        .collect()
}
