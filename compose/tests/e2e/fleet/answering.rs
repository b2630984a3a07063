//! A device that answers commands as a test wants it to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, connect};

/// Makes the answers to a command: payloads for `resp`.
pub type Manner = Arc<dyn Fn(&Value) -> Vec<Value> + Send + Sync>;

pub struct Answering {
    pub id: String,
    /// Every command received, unchanged.
    pub got: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

/// The answer `success` to a command.
pub fn success(command: &Value) -> Value {
    json!({
        "request_id": command["request_id"], "command": command["command"], "status": "success",
        "data": {"echo": command["params"]},
    })
}

impl Answering {
    /// Connects, registers, and answers every command with success.
    pub async fn good(server: &Server, id: &str) -> Self {
        Self::start(&connect(server.mqtt, id), Arc::new(|command| vec![success(command)])).await
    }

    /// The same at any broker, with any answers.
    pub async fn at(broker: SocketAddr, id: &str, manner: Manner) -> Self {
        Self::start(&connect(broker, id), manner).await
    }

    pub async fn start(options: &ConnectOptions, manner: Manner) -> Self {
        let id = options.client_id.clone();
        let options =
            ConnectOptions { subscribe: Some(format!("acuvim/{id}/cmd")), ..options.clone() };
        let mut connection = Connection::open(&options).await.expect("MQTT connection");
        // Acknowledged after the subscription, so commands arrive from here on.
        let register = json!({"device_id": id, "max_packet_bytes": 1024}).to_string();
        connection.publish("devices/register", register, false).await.expect("registered");
        let (got, resp) = (Arc::<Mutex<Vec<Value>>>::default(), format!("acuvim/{id}/resp"));
        let seen = Arc::clone(&got);
        let task = tokio::spawn(async move {
            while let Some((_, payload)) = connection.messages.recv().await {
                let command: Value = serde_json::from_slice(&payload).expect("JSON");
                seen.lock().expect("lock").push(command.clone());
                for answer in manner(&command) {
                    if connection.publish(&resp, answer.to_string(), false).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { id, got, task }
    }

    pub fn count(&self) -> usize {
        self.got.lock().expect("lock").len()
    }

    /// Drops the connection without DISCONNECT.
    pub fn vanish(self) {
        self.task.abort();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Repeats a request until the answer is as wanted.
pub async fn until(server: &Server, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let answer = server.get(path).await;
        let status = answer.status();
        let json: Value = answer.json().await.expect("JSON");
        if status.is_success() && wanted(&json) {
            return json;
        }
        assert!(begun.elapsed() < PATIENCE, "{path}: {status} {json:#}");
        crate::harness::pause(begun).await;
    }
}

/// Sends a command; returns its id.
pub async fn give(server: &Server, device: &str, body: Value) -> String {
    let answer = server.post(&format!("/api/devices/{device}/command"), &body).await;
    let status = answer.status().as_u16();
    let json: Value = answer.json().await.expect("JSON");
    assert_eq!(status, 202, "{body}: {json}");
    json["request_id"].as_str().expect("an id").to_owned()
}

/// Waits until a command has ended.
pub async fn ended(server: &Server, request_id: &str) -> Value {
    let is_final = |json: &Value| {
        ["success", "error", "timeout"].contains(&json["status"].as_str().unwrap_or_default())
    };
    until(server, &format!("/api/commands/{request_id}"), is_final).await
}
