//! The main path under load, for both deployments.

use std::time::{Duration, Instant};

use acuvim_simulator::fleet::Meter;
use tokio::task::JoinSet;

use crate::{args::Args, server::Server, services::Deployment, usage::Usage};

/// 200 connections, each with one reading in flight, as fast as the broker accepts them.
pub async fn ingest(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "ingest", &[]).await?;
    let before = deployment.cpu_seconds()?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds);
    let mut devices = Vec::new();
    for n in 0..200 {
        let connection = server.device(n).await?;
        devices.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            // Composed in advance, because the work of the devices is not to be measured.
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
    let sent_in = begun.elapsed().as_secs_f64();
    // An external broker acknowledges by itself, so what counts is what our log has.
    server.wait_for_metric("acuvim_ingest_stored_total{kind=\"telemetry\"}", acknowledged).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let usage = server.usage()?;
    println!(
        "{} ingest   {:>9.0} readings/s from PUBLISH to durable, 200 connections, client and server on \
         the same cores; {:.0} readings/CPU s of ours ({:.1} CPU s, peak {} MB){}; devices were \
         done after {sent_in:.1} of {seconds:.1} s",
        deployment.name(),
        acknowledged as f64 / seconds,
        acknowledged as f64 / usage.cpu_seconds,
        usage.cpu_seconds,
        usage.peak_mb,
        deployment.broker_share(&usage, before)?,
    );
    Ok(())
}

/// A day of readings in large batches, and how long the server takes to write them to Parquet. It is
/// restarted in between, to measure the CPU time of ingest and of the processor separately.
pub async fn stream(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    const DEVICES: u32 = 100;
    let hold =
        ["lake.flush_interval_ms=3600000", "lake.flush_rows=10000000", "lake.max_tail_mb=16"];
    let server = Server::start(args, deployment, "stream", &hold).await?;
    day_of(&server, 0..DEVICES).await?;
    let rows = i64::from(DEVICES) * READINGS;
    let batches = u64::from(DEVICES) * (READINGS / 480).unsigned_abs();
    server.wait_for_metric("acuvim_ingest_stored_total{kind=\"telemetry\"}", batches).await?;
    server.kill()?;
    let server =
        Server::start_again(args, deployment, "stream", &["lake.compaction_interval_ms=1000"])
            .await?;
    let begun = Instant::now();
    server.wait_for_lake(rows).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let usage = server.usage()?;
    println!(
        "{} stream   {:>9.0} readings/CPU s from log to committed Parquet ({rows} readings in \
         {seconds:.1} s, {:.1} CPU s with compaction, peak {} MB)",
        deployment.name(),
        rows as f64 / usage.cpu_seconds,
        usage.cpu_seconds,
        usage.peak_mb
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bytes = server.lake_bytes().await?;
    println!(
        "{} disk     {:>9.2} bytes/sample after compaction (40 readings a row, {:.1} bytes a row)",
        deployment.name(),
        bytes as f64 / (rows * 40) as f64,
        bytes as f64 / rows as f64
    );
    Ok(())
}

/// Readings of a device in a day, one every 10 s.
pub const READINGS: i64 = 8640;

/// The start of yesterday, in milliseconds.
pub fn yesterday() -> i64 {
    chrono::Utc::now().timestamp_millis() / 86_400_000 * 86_400_000 - 86_400_000
}

/// Publishes a day of readings of devices, in batches of 480.
pub async fn day_of(server: &Server, range: std::ops::Range<u32>) -> anyhow::Result<()> {
    let base = yesterday();
    let mut devices = Vec::new();
    for n in range {
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
    Ok(())
}

/// 200 devices that together send 2,000 messages a second until `end`.
pub async fn steady(server: &Server, end: Instant) -> anyhow::Result<JoinSet<()>> {
    let mut load = JoinSet::new();
    for n in 0..200 {
        let connection = server.device(n).await?;
        load.spawn(async move {
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
        });
    }
    Ok(load)
}

/// A function that returns the quantile of the times, in milliseconds.
pub fn milliseconds(times: &[Duration]) -> impl Fn(f64) -> f64 + use<> {
    let mut times = times.to_vec();
    times.sort_unstable();
    move |share| {
        let n = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(n).copied().unwrap_or_default().as_secs_f64() * 1000.0
    }
}

/// 2,000 messages a second, and the delay of single ones from PUBLISH to an SQL answer.
pub async fn fresh(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "fresh", &["lake.flush_interval_ms=2000"]).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let load = steady(&server, end).await?;
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
    load.join_all().await;
    let at = milliseconds(&times);
    let usage = server.usage()?;
    println!(
        "{} fresh    {:>9.0} ms p50, {:.0} ms p99 from PUBLISH to visible in SQL at 2,000 messages/s \
         ({} probes; server: {:.1} CPU s, peak {} MB)",
        deployment.name(),
        at(0.5),
        at(0.99),
        times.len(),
        usage.cpu_seconds,
        usage.peak_mb
    );
    Ok(())
}

/// 1,000 devices with a reading every 10 s, flushed every 10 s.
pub async fn memory(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "memory", &[]).await?;
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
        "{} memory   {:>9} MB peak with 1,000 devices at a reading per 10 s ({:.1} CPU s in {} s)",
        deployment.name(),
        usage.peak_mb,
        usage.cpu_seconds,
        args.seconds.max(30)
    );
    Ok(())
}

/// A minute without Kafka at 500 messages/s, and the time until all readings are in SQL answers.
pub async fn outage(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "outage", &[]).await?;
    let end = Instant::now() + Duration::from_secs(75);
    let mut load = Vec::new();
    for n in 0..50 {
        let connection = server.device(n).await?;
        load.push(tokio::spawn(async move {
            let mut meter = Meter::new(1, n);
            let topic = format!("acuvim/{}/telemetry", meter.device_id);
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            let mut acknowledged = 0_i64;
            while Instant::now() < end {
                ticks.tick().await;
                let payload = meter.telemetry(chrono::Utc::now().timestamp_millis(), "live");
                if connection.publish(&topic, payload, false).await.is_err() {
                    break;
                }
                acknowledged += 1;
            }
            acknowledged
        }));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    deployment.kill("kafka-1")?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    deployment.restart("kafka-1")?;
    let back = Instant::now();
    let mut acknowledged = 0;
    for device in load {
        acknowledged += device.await?;
    }
    while server.number("SELECT count(*) FROM telemetry", "hot").await.unwrap_or(0) < acknowledged {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let usage: Usage = server.usage()?;
    println!(
        "{} outage   {:>9.1} s from Kafka's return until all {acknowledged} readings are in SQL answers, \
         after a minute without it at 500 messages/s ({:.1} CPU s, peak {} MB)",
        deployment.name(),
        back.elapsed().as_secs_f64(),
        usage.cpu_seconds,
        usage.peak_mb
    );
    Ok(())
}
