//! Firmware: uploads, offers and downloads, and rollouts over a fleet.

mod fetching;
mod logger;
mod rollouts;
mod uploads;
mod walk;

use std::time::{Duration, Instant};

use acuvim_firmware_registry::Sample;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};

pub use walk::updated;

pub const HARDWARE: &str = "TTGO T-Call v1.4";

/// A multipart form as a browser sends it.
pub fn form(parts: &[(&str, Option<&str>, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "----acuvim-test-7d93b";
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
            )
            .into_bytes(),
        );
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").into_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// Uploads a form; returns status and answer.
pub async fn upload(server: &Server, parts: &[(&str, Option<&str>, &[u8])]) -> (u16, Value) {
    let (content_type, body) = form(parts);
    let answer = server
        .client
        .post(format!("{}/api/firmware", server.http))
        .bearer_auth(server.token().await)
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// Uploads a valid image; returns its bytes.
pub async fn release(server: &Server, version: &str, size: usize) -> Vec<u8> {
    let image = Sample::application(version, size).bytes();
    let parts: [(&str, Option<&str>, &[u8]); 3] = [
        ("version", None, version.as_bytes()),
        ("hardware", None, HARDWARE.as_bytes()),
        ("file", Some("logger.bin"), &image),
    ];
    let begun = Instant::now();
    let (status, made) = loop {
        let (status, made) = upload(server, &parts).await;
        // The database may be busy with a fleet that registers.
        if status != 503 || begun.elapsed() > PATIENCE {
            break (status, made);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!((status, &made["version"]), (201, &json!(version)), "{made}");
    image
}

/// Starts a rollout; returns its id.
pub async fn deploy(server: &Server, body: &Value) -> String {
    let answer = server.post("/api/firmware/deploy", body).await;
    let status = answer.status().as_u16();
    let made: Value = answer.json().await.expect("JSON");
    assert_eq!(status, 202, "{made}");
    made["rollout_id"].as_str().expect("an id").to_owned()
}
