//! A tool makes requests from the OpenAPI document: no answer has a status, a content type or a shape that
//! the document does not describe.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Server, T0, reading, root};

/// Answers are compared with the document in these respects.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_schema_conformance";

/// Left out: live connections do not end, a logout ends the run, and a scan waits for the device.
const LEFT_OUT: &str = "auth/|negotiate|hub|events|scan";

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_the_document_says() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &["lake.flush_interval_ms=300"]).await;
    // Random requests cause warnings.
    server.expect("\"level\":\"WARN\"");
    let key: Value = server
        .post("/api/keys", &json!({"name": "document", "role": "Admin"}))
        .await
        .json()
        .await
        .expect("json");
    let key = key["secret"].as_str().expect("a key").to_owned();
    for id in ["d1", "d2"] {
        let device = server.device(id).await;
        for n in 0..20 {
            let topic = format!("acuvim/{id}/telemetry");
            device.publish(&topic, reading(T0 + n * 1000), false).await.expect("ack");
        }
        device.close().await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", 40).await;
    let http = server.http.clone();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(root().join("target/python/bin/schemathesis"))
            .args(["run", &format!("{http}/api/openapi.json"), "--url", &http])
            .args(["--header", &format!("X-Api-Key: {key}"), "--checks", CHECKS])
            .args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples()])
            .args(["--exclude-path-regex", LEFT_OUT, "--continue-on-failure"])
            .args(["--warnings", "off", "--workers", "2"])
            .current_dir(dir.path())
            .output()
            .expect("schemathesis")
    });
    let run = run.await.expect("run");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let failures = said.find("= FAILURES =").or(said.find("= ERRORS =")).unwrap_or(0);
    let told: String = said.chars().skip(failures).take(8000).collect();
    assert!(run.status.success(), "{told}");
    assert!(said.contains("generated"), "{told}");
    server.stop().await;
}

/// Requests of each kind; `./dev nightly` sets more.
fn examples() -> String {
    std::env::var("ACUVIM_CASES").unwrap_or_else(|_| "2".to_owned())
}
