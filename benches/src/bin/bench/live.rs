//! Live clients: the delay of a reading from its PUBACK to a WebSocket, the effect of slow clients on
//! others, and the memory of idle connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{args::Args, server::Server, services::Deployment, websocket::WebSocket};

const DEVICES: usize = 2000;

/// Connections that publish, each for an equal share of the devices.
const TALKERS: usize = 20;

const CLIENTS: usize = 200;
const SLOW: usize = 100;
const IDLE: usize = 1000;

/// Readings a second.
const RATE: u32 = 2000;

/// When readings were acknowledged, by device and time.
type Acked = Arc<Mutex<HashMap<(usize, i64), Instant>>>;

/// Measures delays with and without slow clients, and the memory of idle connections.
pub async fn live(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let open = ["http.requests_per_user=0", "http.requests_per_address=0"];
    let server = Server::start(args, deployment, "live", &open).await?;
    let seconds = args.seconds.min(20);
    // Twice, because the memory of a server grows at first.
    latencies(seconds, &server, "alone").await?;
    let first = server.resident_mb()?;
    let alone = latencies(seconds, &server, "alone again").await?;
    let grows = server.resident_mb()?.saturating_sub(first);
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = WebSocket::open(&server, Some(4096)).await?;
        client.call("Subscribe", &json!({})).await?;
        slow.push(client);
    }
    let trickle = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for client in &mut slow {
                client.byte().await;
            }
        }
    });
    // Slow clients have an effect only once the buffers of the kernel are full.
    latencies(seconds / 4, &server, "as slow ones fill").await?;
    let before = server.resident_mb()?;
    let beside = latencies(seconds, &server, "beside").await?;
    trickle.abort();
    println!(
        "live     {:>9.2} x the p99 beside {SLOW} clients that read a byte a second; {} MB more after it, {grows} without them",
        beside / alone,
        server.resident_mb()?.saturating_sub(before)
    );
    drop(server);
    idle(args, deployment).await
}

async fn idle(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let open = ["http.requests_per_user=0", "http.requests_per_address=0"];
    let server = Server::start(args, deployment, "live-idle", &open).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.resident_mb()?;
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        clients.push(WebSocket::open(&server, None).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with = server.resident_mb()?;
    println!("live     {:>9} MB for {IDLE} idle connections", with.saturating_sub(before));
    drop(clients);
    Ok(())
}

/// The p99 delay in milliseconds at clients that follow ten devices each.
async fn latencies(seconds: u64, server: &Server, name: &str) -> anyhow::Result<f64> {
    let acked = Acked::default();
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let mut client = WebSocket::open(server, None).await?;
        let ids: Vec<String> = (0..10).map(|k| id((n * 10 + k) % DEVICES)).collect();
        client
            .call("Subscribe", &json!({"device_ids": ids, "types": ["TelemetryReceived"]}))
            .await?;
        clients.spawn(follow(client, stopped.clone()));
    }
    let cpu = server.usage()?.cpu_seconds;
    let begun = Instant::now();
    let published = publish(server, &acked, begun + Duration::from_secs(seconds)).await?;
    let took = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    let (mut times, mut events) = (Vec::new(), 0);
    while let Some(seen) = clients.join_next().await {
        let acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
        for (device, ts, at) in seen? {
            events += 1;
            if let Some(acked) = acked.get(&(device, ts)) {
                times.push(at.saturating_duration_since(*acked).as_secs_f64() * 1000.0);
            }
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    let part = |part: f64| {
        let n = (times.len() as f64 * part) as usize;
        times.get(n.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let cpu = server.usage()?.cpu_seconds - cpu;
    println!(
        "live     {:>9.0} readings/s to {CLIENTS} clients, {name}: PUBACK to event p50 {:.0}, p99 {:.0}, \
         most {:.0} ms; {events} events of {published} readings, {cpu:.1} s of CPU in {took:.0} s",
        published as f64 / took,
        part(0.5),
        part(0.99),
        part(1.0)
    );
    Ok(part(0.99))
}

/// Publishes readings of all devices until `end`; returns how many.
async fn publish(server: &Server, acked: &Acked, end: Instant) -> anyhow::Result<usize> {
    let mut talkers = JoinSet::new();
    for talker in 0..TALKERS {
        let connection = server.device(u32::try_from(talker)?).await?;
        let acked = Arc::clone(acked);
        talkers.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) * TALKERS as u32 / RATE);
            let mut n = 0_usize;
            while Instant::now() < end {
                tick.tick().await;
                let device = talker * (DEVICES / TALKERS) + n % (DEVICES / TALKERS);
                let ts = chrono::Utc::now().timestamp_millis();
                let topic = format!("acuvim/{}/telemetry", id(device));
                connection.publish(&topic, reading(ts), false).await?;
                let at = Instant::now();
                acked.lock().unwrap_or_else(PoisonError::into_inner).insert((device, ts), at);
                n += 1;
            }
            anyhow::Ok(n)
        });
    }
    let mut published = 0;
    while let Some(one) = talkers.join_next().await {
        published += one??;
    }
    Ok(published)
}

fn id(device: usize) -> String {
    format!("live-{device}")
}

/// A reading with all values of a meter.
fn reading(ts: i64) -> String {
    let data: serde_json::Map<String, Value> = acuvim_wire::reading::READINGS
        .iter()
        .map(|reading| (reading.name.to_owned(), json!(230.4)))
        .collect();
    json!({"ts": ts, "data": data}).to_string()
}

/// The readings that a client receives, and when.
async fn follow(
    mut client: WebSocket,
    mut stop: watch::Receiver<bool>,
) -> Vec<(usize, i64, Instant)> {
    let mut seen = Vec::new();
    loop {
        let text = tokio::select! {
            text = client.receive() => text,
            _ = stop.wait_for(|stop| *stop) => return seen,
        };
        let Some(text) = text else { return seen };
        let now = Instant::now();
        for record in text.split('\u{1e}').filter(|r| r.contains("TelemetryReceived")) {
            let Ok(record) = serde_json::from_str::<Value>(record) else { continue };
            let text = |path: &str| record.pointer(path).and_then(Value::as_str);
            let device = text("/arguments/0").and_then(|id| id.strip_prefix("live-")?.parse().ok());
            let ts = text("/arguments/1/ts")
                .and_then(|ts| ts.parse::<chrono::DateTime<chrono::Utc>>().ok());
            if let (Some(device), Some(ts)) = (device, ts) {
                seen.push((device, ts.timestamp_millis(), now));
            }
        }
    }
}
