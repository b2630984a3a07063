//! A simulated logger that updates itself, or fails to in one of several ways.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::HARDWARE;
use crate::harness::connect;

/// How it reacts to an update command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Updates and confirms.
    Good,
    /// Loses the connection in the middle of the download, and resumes.
    Breaks,
    /// Answers with an error.
    Fails,
    /// Installs and never sends again.
    Bricks,
    /// Installs, restarts, and runs its previous version again.
    RollsBack,
    /// Installs nothing, and reports the new version.
    Lies,
}

/// The state of a logger.
#[derive(Debug, Clone)]
pub struct Known {
    pub running: String,
    pub boot: u64,
    /// The commands that it received.
    pub told: Vec<Value>,
}

pub struct Logger {
    pub id: String,
    pub known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

/// Duration of each step, long enough for a test to observe it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub step: Duration,
    pub heartbeat: Duration,
    /// Bytes per range request.
    pub range: usize,
}

impl Logger {
    pub fn start(at: SocketAddr, id: &str, habit: Habit, pace: Pace) -> Self {
        let known = Known { running: "1.1.0".into(), boot: 3, told: Vec::new() };
        let known = Arc::new(Mutex::new(known));
        let will = r#"{"status":"offline","reason":"lwt"}"#.to_owned();
        let options = ConnectOptions {
            subscribe: Some(format!("acuvim/{id}/cmd")),
            will: Some((format!("acuvim/{id}/status"), will)),
            ..connect(at, id)
        };
        let life = Life {
            id: id.to_owned(),
            habit,
            pace,
            known: Arc::clone(&known),
            client: reqwest::Client::new(),
            owed: Vec::new(),
        };
        Self { id: id.to_owned(), known, task: tokio::spawn(life.run(options)) }
    }

    pub fn told(&self) -> Vec<Value> {
        self.known.lock().expect("lock").told.clone()
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Life {
    id: String,
    habit: Habit,
    pace: Pace,
    known: Arc<Mutex<Known>>,
    client: reqwest::Client,
    /// Answers without a PUBACK.
    owed: Vec<Value>,
}

/// It has disconnected for good.
struct Dead;

impl Life {
    async fn run(mut self, options: ConnectOptions) {
        loop {
            if let Ok(connection) = Connection::open(&options).await
                && self.connected(connection).await.is_err()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn connected(&mut self, mut connection: Connection) -> Result<(), Dead> {
        let running = self.known.lock().expect("lock").running.clone();
        let register = json!({
            "device_id": self.id, "hardware": HARDWARE, "firmware_version": running,
            "max_packet_bytes": 1024,
        });
        if connection.publish("devices/register", register.to_string(), false).await.is_err() {
            return Ok(());
        }
        let status = format!("acuvim/{}/status", self.id);
        let online = json!({ "status": "online", "ts": chrono::Utc::now().timestamp_millis() });
        if connection.publish(&status, online.to_string(), true).await.is_err() {
            return Ok(());
        }
        let mut beats = tokio::time::interval(self.pace.heartbeat);
        loop {
            if self.settle(&connection).await.is_err() {
                return Ok(());
            }
            tokio::select! {
                _ = beats.tick() => if self.beat(&connection).await.is_err() { return Ok(()) },
                message = connection.messages.recv() => match message {
                    Some((_, payload)) => {
                        let command: Value = serde_json::from_slice(&payload).expect("JSON");
                        let begun = self.known.lock().expect("lock").told.iter()
                            .any(|told| told["request_id"] == command["request_id"]);
                        if !begun {
                            self.known.lock().expect("lock").told.push(command.clone());
                            self.obey(&connection, &command).await?;
                        }
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    async fn beat(&self, connection: &Connection) -> Result<(), acuvim_simulator::mqtt::Error> {
        let known = self.known.lock().expect("lock").clone();
        let beat = json!({
            "ts": chrono::Utc::now().timestamp_millis(), "heartbeat_interval_s": 30,
            "firmware_version": known.running, "hardware": HARDWARE, "boot": known.boot,
            "uptime_ms": 60_000,
        });
        connection.publish(&format!("acuvim/{}/heartbeat", self.id), beat.to_string(), false).await
    }

    /// Sends the answers that have no PUBACK yet.
    async fn settle(
        &mut self,
        connection: &Connection,
    ) -> Result<(), acuvim_simulator::mqtt::Error> {
        while let Some(answer) = self.owed.first() {
            let topic = format!("acuvim/{}/resp", self.id);
            connection.publish(&topic, answer.to_string(), false).await?;
            self.owed.remove(0);
        }
        Ok(())
    }

    fn owe(&mut self, command: &Value, status: &str, error: Option<&str>) {
        self.owed.push(json!({
            "request_id": command["request_id"], "command": command["command"], "status": status,
            "error": error,
        }));
    }

    async fn obey(&mut self, connection: &Connection, command: &Value) -> Result<(), Dead> {
        if command["command"] != "ota_update" {
            self.owe(command, "success", None);
            return Ok(());
        }
        let params = &command["params"];
        let version = params["version"].as_str().expect("a version").to_owned();
        if self.habit == Habit::Lies {
            self.known.lock().expect("lock").running = version;
            return Ok(());
        }
        self.owe(command, "ack", None);
        let _ = self.settle(connection).await;
        tokio::time::sleep(self.pace.step).await;
        if self.habit == Habit::Fails {
            self.owe(command, "error", Some("no room for the image"));
            return Ok(());
        }
        let url = params["url"].as_str().expect("a URL");
        let image = self.fetch(url).await;
        if params["checksum"] != json!(hex::encode(Sha256::digest(&image))) {
            self.owe(command, "error", Some("the checksum is another"));
            return Ok(());
        }
        self.owe(command, "success", None);
        let _ = self.settle(connection).await;
        tokio::time::sleep(self.pace.step).await;
        let mut known = self.known.lock().expect("lock");
        known.boot += 1;
        match self.habit {
            Habit::Bricks => return Err(Dead),
            Habit::RollsBack => {}
            _ => known.running = version,
        }
        Ok(())
    }

    /// Downloads an image range by range, however often it is interrupted.
    async fn fetch(&self, url: &str) -> Vec<u8> {
        let (mut image, mut etag, mut cut) = (Vec::new(), None::<String>, false);
        for _ in 0..10_000 {
            let end = image.len() + self.pace.range - 1;
            let mut ask =
                self.client.get(url).header("range", format!("bytes={}-{end}", image.len()));
            if let Some(etag) = &etag {
                ask = ask.header("if-range", etag);
            }
            let part = async {
                let answer = ask.send().await?.error_for_status()?;
                let header = |name: &str| {
                    answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
                };
                let (tag, range) = (header("etag"), header("content-range"));
                let bytes = answer.bytes().await?;
                Ok::<_, reqwest::Error>((tag, range, bytes))
            };
            match part.await {
                Ok((tag, Some(range), bytes)) => {
                    etag = etag.or(tag);
                    // Loses half of what it has, once.
                    let lost = self.habit == Habit::Breaks && !std::mem::replace(&mut cut, true);
                    image.extend(&bytes[..if lost { bytes.len() / 2 } else { bytes.len() }]);
                    let total = range.rsplit('/').next().and_then(|n| n.parse().ok());
                    if Some(image.len()) == total {
                        return image;
                    }
                }
                Ok((_, None, bytes)) => return bytes.to_vec(),
                // The server is unavailable or refuses it.
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        image
    }
}
