//! `./dev bench`: the figures of the main path, on a release build of the real binary.
//!
//! Nothing here asserts: a figure is printed with the CPU seconds and the memory it took.

#![allow(clippy::print_stdout)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use acuvim_benches::{
    fleet::Meter,
    mqtt::{ConnectOptions, Connection},
};
use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::{Value, json};

const PASSWORD: &str = "a password for benchmarks";

/// Prints the figures of the main path.
#[derive(Debug, Parser)]
struct Args {
    /// The binary.
    #[arg(long, default_value = "target/release/acuvim")]
    binary: PathBuf,
    /// Seconds of each load.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the runs keep their data: the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Only these: ingest, stream, fresh, memory.
    #[arg(long, value_delimiter = ',', default_value = "ingest,stream,fresh,memory")]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let wanted = |name: &str| args.only.iter().any(|n| n == name);
    println!("release build, {} cores", std::thread::available_parallelism()?);
    if wanted("ingest") {
        ingest(&args).await?;
    }
    if wanted("stream") {
        stream(&args).await?;
    }
    if wanted("fresh") {
        fresh(&args).await?;
    }
    if wanted("memory") {
        memory(&args).await?;
    }
    Ok(())
}

/// 200 connections, each with one reading in flight, as the broker takes them.
async fn ingest(args: &Args) -> anyhow::Result<()> {
    let server = Server::start(args, "ingest", &[]).await?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds);
    let mut devices = Vec::new();
    for n in 0..200 {
        let connection = server.device(n).await?;
        devices.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            // What a device of its own would have composed: not what is measured here.
            let base = chrono::Utc::now().timestamp_millis();
            let payloads: Vec<String> =
                (0..500).map(|i| meter.telemetry(base + i * 1000, "live")).collect();
            let mut acknowledged = 0_u64;
            while Instant::now() < end {
                let n = usize::try_from(acknowledged % 500).unwrap_or(0);
                let payload = payloads.get(n).cloned().unwrap_or_default();
                if connection.publish(&topic, payload, false).await.is_err() {
                    break;
                }
                acknowledged += 1;
            }
            acknowledged
        }));
    }
    let mut acknowledged = 0;
    for device in devices {
        acknowledged += device.await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let usage = server.usage()?;
    println!(
        "ingest   {:>9.0} readings/s acknowledged (durable), 200 connections, client and server \
         on the same cores; server: {:.1} CPU s of {seconds:.1} s, peak {} MB",
        acknowledged as f64 / seconds,
        usage.cpu_seconds,
        usage.peak_mb
    );
    Ok(())
}

/// A day of devices in large batches, then how long the server takes to have it in Parquet: the
/// CPU of ingest and stream is told apart by stopping and starting it in between.
async fn stream(args: &Args) -> anyhow::Result<()> {
    const DEVICES: u32 = 100;
    const READINGS: i64 = 8640;
    let hold =
        ["lake.flush_interval_ms=3600000", "lake.flush_rows=10000000", "lake.max_tail_mb=16"];
    let server = Server::start(args, "stream", &hold).await?;
    let base = chrono::Utc::now().timestamp_millis() / 86_400_000 * 86_400_000 - 86_400_000;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let connection = server.device(n).await?;
        devices.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            for part in 0..READINGS / 480 {
                let lines: Vec<String> = (0..480)
                    .map(|i| meter.telemetry(base + (part * 480 + i) * 10_000, "sd"))
                    .collect();
                connection.publish(&topic, lines.join("\n"), false).await?;
            }
            anyhow::Ok(())
        }));
    }
    for device in devices {
        device.await??;
    }
    server.kill()?;
    let rows = i64::from(DEVICES) * READINGS;
    let server = Server::start_again(args, "stream", &["lake.compaction_interval_ms=1000"]).await?;
    let begun = Instant::now();
    server.wait_for_lake(rows).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let usage = server.usage()?;
    println!(
        "stream   {:>9.0} readings/CPU s from log to committed Parquet ({rows} readings in \
         {seconds:.1} s, {:.1} CPU s with compaction, peak {} MB)",
        rows as f64 / usage.cpu_seconds,
        usage.cpu_seconds,
        usage.peak_mb
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bytes = server.lake_bytes().await?;
    println!(
        "disk     {:>9.2} bytes/sample after compaction (40 readings a row, {:.1} bytes a row)",
        bytes as f64 / (rows * 40) as f64,
        bytes as f64 / rows as f64
    );
    Ok(())
}

/// 2,000 messages a second; every now and then one is followed from PUBLISH to its SQL answer.
async fn fresh(args: &Args) -> anyhow::Result<()> {
    let server = Server::start(args, "fresh", &["lake.flush_interval_ms=2000"]).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut load = Vec::new();
    for n in 0..200 {
        let connection = server.device(n).await?;
        load.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            while Instant::now() < end {
                ticks.tick().await;
                let payload = meter.telemetry(chrono::Utc::now().timestamp_millis(), "live");
                if connection.publish(&topic, payload, false).await.is_err() {
                    break;
                }
            }
        }));
    }
    let probe = server.device(10_000).await?;
    let id = Meter::new(1, 10_000).device_id;
    let mut times = Vec::new();
    let query = format!("SELECT count(*) FROM telemetry WHERE device_id = '{id}'");
    let mut sent = 0_i64;
    while Instant::now() < end {
        let begun = Instant::now();
        let payload = format!("{{\"ts\":{},\"f\":50}}", chrono::Utc::now().timestamp_millis());
        probe.publish(&format!("acuvim/{id}/telemetry"), payload, false).await?;
        sent += 1;
        while server.number(&query, "hot").await? < sent {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for device in load {
        device.await?;
    }
    times.sort_unstable();
    let at = |share: f64| {
        let n = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(n).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let usage = server.usage()?;
    println!(
        "fresh    {:>9.0} ms p50, {:.0} ms p99 from PUBLISH to visible in SQL at 2,000 messages/s \
         ({} probes; server: {:.1} CPU s, peak {} MB)",
        at(0.5),
        at(0.99),
        times.len(),
        usage.cpu_seconds,
        usage.peak_mb
    );
    Ok(())
}

/// 1,000 devices, a reading each per 10 s, flushed every 10 s.
async fn memory(args: &Args) -> anyhow::Result<()> {
    let server = Server::start(args, "memory", &[]).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds.max(30));
    let mut load = Vec::new();
    for n in 0..1000 {
        let connection = server.device(n).await?;
        load.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            let mut ticks = tokio::time::interval(Duration::from_secs(10));
            while Instant::now() < end {
                ticks.tick().await;
                let payload = meter.telemetry(chrono::Utc::now().timestamp_millis(), "live");
                if connection.publish(&topic, payload, false).await.is_err() {
                    break;
                }
            }
        }));
    }
    for device in load {
        device.await?;
    }
    let usage = server.usage()?;
    println!(
        "memory   {:>9} MB peak with 1,000 devices at a reading per 10 s ({:.1} CPU s in {} s)",
        usage.peak_mb,
        usage.cpu_seconds,
        args.seconds.max(30)
    );
    Ok(())
}

struct Usage {
    cpu_seconds: f64,
    peak_mb: u64,
}

/// The binary, started on free ports.
struct Server {
    child: Child,
    http: String,
    mqtt_port: u16,
    token: String,
    client: reqwest::Client,
}

impl Server {
    async fn start(args: &Args, name: &str, set: &[&str]) -> anyhow::Result<Self> {
        let dir = args.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        Self::start_again(args, name, set).await
    }

    async fn start_again(args: &Args, name: &str, set: &[&str]) -> anyhow::Result<Self> {
        let dir = args.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let (http_port, mqtt_port) = (free_port()?, free_port()?);
        let mut command = Command::new(&args.binary);
        command
            .args(["serve", "--http-listen", &format!("127.0.0.1:{http_port}")])
            .args(["--mqtt-listen", &format!("127.0.0.1:{mqtt_port}")])
            .args(["--set", "mqtt.websocket_listen=", "--set", "logging.level=warn", "--data-dir"])
            .arg(&dir)
            .env("ACUVIM__ADMIN__PASSWORD", PASSWORD)
            .stdout(Stdio::null());
        for pair in set {
            command.args(["--set", pair]);
        }
        let child = command
            .spawn()
            .with_context(|| format!("{}: build it with ./dev bench", args.binary.display()))?;
        let client = reqwest::Client::new();
        let http = format!("http://127.0.0.1:{http_port}");
        let mut server = Self { child, http, mqtt_port, token: String::new(), client };
        server.log_in().await?;
        Ok(server)
    }

    async fn log_in(&mut self) -> anyhow::Result<()> {
        let url = format!("{}/api/auth/login", self.http);
        let body = json!({"username": "admin", "password": PASSWORD});
        for _ in 0..600 {
            if let Ok(answer) = self.client.post(&url).json(&body).send().await {
                let answer: Value = answer.json().await?;
                self.token = answer
                    .pointer("/access_token")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the server does not answer")
    }

    async fn device(&self, n: u32) -> anyhow::Result<Connection> {
        let options = ConnectOptions {
            host: "127.0.0.1".to_owned(),
            port: self.mqtt_port,
            client_id: format!("bench-{n}"),
            login: None,
            will: None,
            subscribe: None,
        };
        Ok(Connection::open(&options).await?)
    }

    async fn number(&self, query: &str, consistency: &str) -> anyhow::Result<i64> {
        let url = format!("{}/api/sql", self.http);
        let body = json!({"query": query, "consistency": consistency});
        let answer = self.client.post(url).bearer_auth(&self.token).json(&body).send().await?;
        let answer: Value = answer.json().await?;
        let number = answer.pointer("/rows/0/0").and_then(Value::as_i64);
        number.with_context(|| format!("{query}: {answer}"))
    }

    async fn wait_for_lake(&self, rows: i64) -> anyhow::Result<()> {
        while self.number("SELECT count(*) FROM telemetry", "lake").await? < rows {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Bytes of the files of the newest version, as Delta's log has them.
    async fn lake_bytes(&self) -> anyhow::Result<u64> {
        let metrics =
            self.client.get(format!("{}/metrics", self.http)).send().await?.text().await?;
        let line = metrics
            .lines()
            .find(|l| l.starts_with("acuvim_lake_bytes{table=\"telemetry\"}"))
            .context("no acuvim_lake_bytes")?;
        let value = line.rsplit(' ').next().context("a value")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
        Ok(value.parse::<f64>()? as u64)
    }

    /// CPU time so far and peak resident memory, from procfs.
    fn usage(&self) -> anyhow::Result<Usage> {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let stat = std::fs::read_to_string(proc.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks = |n: usize| fields.get(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        let status = std::fs::read_to_string(proc.join("status"))?;
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
        let kb: u64 = peak.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        // utime and stime are fields 14 and 15 of stat, in ticks of 1/100 s.
        Ok(Usage { cpu_seconds: (ticks(12) + ticks(13)) / 100.0, peak_mb: kb / 1024 })
    }

    fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
