//! The live page in Chromium.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::harness::{PASSWORD, PATIENCE, Server, root};

struct Browser {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
}

impl Browser {
    fn open(server: &Server, device: &str, picture: &std::path::Path) -> Self {
        let mut child = Command::new("node")
            .arg(root().join("compose/tests/clients/page.mjs"))
            .args([&server.http, "admin", PASSWORD, device])
            .arg(picture)
            .env("CLIENTS", root().join("target/clients"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let stdout = child.stdout.take().expect("stdout");
        let stdin = child.stdin.take().expect("stdin");
        Self { child, lines: BufReader::new(stdout).lines(), stdin }
    }

    /// Waits for the next report of the page. A message on the browser's console fails the test.
    async fn sees(&mut self, event: &str) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no {event}")).expect("text").expect("it runs");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["event"], event, "{line}");
        line["value"].clone()
    }

    async fn wait_for(&mut self, what: &str) {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await.expect("it listens");
        self.sees("seen").await;
    }
}

fn volts(ts: i64, volts: f64) -> String {
    json!({"ts": ts, "data": {"voltage_l1_v": volts}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_follows_the_fleet() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["live.default_seconds=1"]).await;
    let talk = server.device("talk").await;
    let now = chrono::Utc::now().timestamp_millis();
    talk.publish("acuvim/meter-1/telemetry", volts(now, 230.5), false).await.expect("ack");
    talk.publish("acuvim/meter-1/status", "online", false).await.expect("ack");
    crate::fleet::until(&server, "/api/devices/meter-1", |d| d["status"] == "online").await;
    let picture = dir.path().join("page.png");
    let mut browser = Browser::open(&server, "meter-1", &picture);
    assert_eq!(browser.sees("ready").await, "230.5");
    for (second, value) in [(1, 231.25), (2, 229.75), (3, 233.5)] {
        let reading = volts(now + second * 1000, value);
        talk.publish("acuvim/meter-1/telemetry", reading, false).await.expect("ack");
        browser.wait_for(&format!("reading {value}")).await;
    }
    // A late reading is not shown, since it is not the newest.
    talk.publish("acuvim/meter-1/telemetry", volts(now - 5000, 1.5), false).await.expect("ack");
    let alert = |state: &str| {
        json!({"ts": now, "type": "hot", "message": "<b>it is hot</b>", "state": state}).to_string()
    };
    talk.publish("acuvim/meter-1/alerts", alert("raised"), false).await.expect("ack");
    browser.wait_for("alert <b>it is hot</b>").await;
    browser.wait_for("reading 233.5").await;
    talk.publish("acuvim/meter-1/alerts", alert("cleared"), false).await.expect("ack");
    browser.wait_for("gone it is hot").await;
    browser.stdin.write_all(b"end\n").await.expect("it listens");
    assert_eq!(browser.sees("chart").await, 4, "every reading is on the chart");
    browser.sees("done").await;
    assert!(browser.child.wait().await.expect("ended").success());
    let picture = std::fs::read(&picture).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} bytes", picture.len());
    server.stop().await;
}
