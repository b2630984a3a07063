//! The control plane under load: lists, heartbeats, commands, logins.

use std::time::{Duration, Instant};

use acuvim_simulator::{fleet::Answers, mqtt::Connection};
use serde_json::{Value, json};

use crate::{args::Args, server::Server, services::Deployment};

/// Without limits on callers, which would slow the benchmark down.
const UNLIMITED: [&str; 3] =
    ["http.requests_per_user=0", "http.requests_per_address=0", "lake.flush_interval_ms=2000"];

/// Devices of the large fleet.
const DEVICES: u32 = 100_000;

fn share(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let n = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
    times.get(n).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

/// Publishes messages, up to 100 of them in flight.
async fn publish_all(
    connection: Connection,
    messages: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let mut waiting = std::collections::VecDeque::new();
    for (topic, payload) in messages {
        waiting.push_back(connection.send(&topic, payload, false).await?);
        if waiting.len() >= 100
            && let Some(first) = waiting.pop_front()
        {
            first.await?;
        }
    }
    for acknowledged in waiting {
        acknowledged.await?;
    }
    Ok(())
}

/// Lists of a fleet of 100,000, filtered and sorted.
pub async fn list(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "list", &UNLIMITED).await?;
    let begun = Instant::now();
    register_fleet(&server).await?;
    wait_for_fleet(&server).await?;
    println!(
        "{} fleet    {:>9.0} registrations/s, each with a heartbeat, from PUBLISH to the device list",
        deployment.name(),
        f64::from(DEVICES) / begun.elapsed().as_secs_f64()
    );
    let mut all = Vec::new();
    for (what, query) in [
        ("by id", ""),
        ("offline, newest heartbeat first", "status=offline&sort=-last_heartbeat"),
        ("online, newest heartbeat first", "status=online&sort=-last_heartbeat"),
        ("by name", "sort=name"),
        ("by firmware", "firmware_version=1.2.0&sort=-device_id"),
        ("found by part of an id", "q=0186a"),
        ("found by part of a serial", "q=ah4999"),
    ] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let begun = Instant::now();
            server.get(&format!("/api/devices?{query}")).await?;
            times.push(begun.elapsed());
        }
        let (p50, p99) = (share(&mut times, 0.5), share(&mut times, 0.99));
        println!(
            "{} list     {p99:>9.1} ms p99, {p50:.1} ms p50 of {DEVICES} devices: {what}",
            deployment.name()
        );
        all.extend(times);
    }
    println!(
        "{} list     {:>9.1} ms p99 of all of these",
        deployment.name(),
        share(&mut all, 0.99)
    );
    let usage = server.usage()?;
    println!("{} list     {:>9} MB peak", deployment.name(), usage.peak_mb);
    Ok(())
}

/// Registers the large fleet, a tenth of it offline.
async fn register_fleet(server: &Server) -> anyhow::Result<()> {
    let mut load = Vec::new();
    for part in 0..20 {
        let connection = server.device(part).await?;
        let ids = (part..DEVICES).step_by(20).map(|n| format!("ACV-{n:012X}"));
        let messages = ids.enumerate().flat_map(|(n, id)| {
            let register = json!({
                "device_id": id, "firmware_version": format!("1.{}.0", n % 4),
                "hardware": "TTGO T-Call v1.4", "meter_serial": format!("AH{n}"),
            });
            let beat = json!({"ts": chrono::Utc::now().timestamp_millis(), "boot": n});
            let status = (n % 10 == 0).then(|| (format!("acuvim/{id}/status"), "offline".into()));
            [
                Some(("devices/register".to_owned(), register.to_string())),
                Some((format!("acuvim/{id}/heartbeat"), beat.to_string())),
                status,
            ]
            .into_iter()
            .flatten()
        });
        load.push(tokio::spawn(publish_all(connection, messages.collect::<Vec<_>>().into_iter())));
    }
    for part in load {
        part.await??;
    }
    Ok(())
}

/// Waits until all devices are in the list, with their status.
async fn wait_for_fleet(server: &Server) -> anyhow::Result<()> {
    let offline = i64::from(DEVICES / 10);
    loop {
        let summary = server.get("/api/dashboard/summary").await?;
        let count = |name: &str| summary.get(name).and_then(Value::as_i64);
        if count("total") == Some(DEVICES.into()) && count("offline") == Some(offline) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// 1,000 heartbeats a second into control, and what the API does meanwhile.
pub async fn heartbeats(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "heartbeats", &UNLIMITED).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut load = Vec::new();
    for part in 0..20_u32 {
        let connection = server.device(part).await?;
        load.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut sent = 0_u64;
            while Instant::now() < end {
                ticks.tick().await;
                let id = format!("ACV-{:012X}", u64::from(part) * 50 + sent % 50);
                let beat = json!({
                    "ts": chrono::Utc::now().timestamp_millis(), "heartbeat_interval_s": 60,
                    "firmware_version": "1.2.0", "boot": sent, "signal_strength": -61,
                });
                connection
                    .publish(&format!("acuvim/{id}/heartbeat"), beat.to_string(), false)
                    .await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        }));
    }
    while server.get("/api/dashboard/summary").await?.get("total") != Some(&json!(1000)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut times = Vec::new();
    while Instant::now() < end {
        for path in ["/api/devices?sort=-last_heartbeat", "/api/devices/ACV-000000000001/status"] {
            let begun = Instant::now();
            let _ = server.get(path).await;
            times.push(begun.elapsed());
        }
        let name = json!({"name": format!("device {}", times.len())});
        let begun = Instant::now();
        server.patch("/api/devices/ACV-000000000002", &name).await?;
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut sent = 0;
    for part in load {
        sent += part.await??;
    }
    let usage = server.usage()?;
    println!(
        "{} heartbeat {:>8.0}/s into control; the API meanwhile {:.1} ms p99, {:.1} ms p50 ({:.1} CPU s, \
         peak {} MB)",
        deployment.name(),
        sent as f64 / args.seconds as f64,
        share(&mut times, 0.99),
        share(&mut times, 0.5),
        usage.cpu_seconds,
        usage.peak_mb
    );
    Ok(())
}

/// A command to a device that answers at once, from POST until the API says `success`.
pub async fn commands(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "commands", &UNLIMITED).await?;
    let id = "ACV-000000000001";
    let mut device = server.listening(id).await?;
    let register = json!({"device_id": id}).to_string();
    device.publish("devices/register", register, false).await?;
    while server.get(&format!("/api/devices/{id}")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answering = tokio::spawn(async move {
        let mut answers = Answers::default();
        while let Some((_, payload)) = device.messages.recv().await {
            for answer in answers.to(&payload) {
                device.publish(&format!("acuvim/{id}/resp"), answer, false).await?;
            }
        }
        anyhow::Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        let given =
            server.post(&format!("/api/devices/{id}/command"), &json!({"command": "ping"})).await?;
        let id = given.get("request_id").and_then(Value::as_str).unwrap_or_default();
        let path = format!("/api/commands/{id}");
        while server.get(&path).await?.get("status") != Some(&json!("success")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begun.elapsed());
    }
    answering.abort();
    println!(
        "{} command  {:>9.1} ms p50, {:.1} ms p99 from POST to `success` of an instant device ({} of them)",
        deployment.name(),
        share(&mut times, 0.5),
        share(&mut times, 0.99),
        times.len()
    );
    Ok(())
}

/// A hundred logins at once: argon2 takes 19 MiB each, and its share is two at a time.
pub async fn logins(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let server = Server::start(args, deployment, "logins", &UNLIMITED).await?;
    let before = server.usage()?.peak_mb;
    let begun = Instant::now();
    let mut logins = Vec::new();
    for _ in 0..100 {
        let login = server.login();
        logins.push(tokio::spawn(login));
    }
    let mut times = Vec::new();
    for login in logins {
        login.await??;
        times.push(begun.elapsed());
    }
    println!(
        "{} login    {:>9.0} ms until the last of 100 at once, {:.0} ms for half; peak {} MB, {} MB before",
        deployment.name(),
        share(&mut times, 1.0),
        share(&mut times, 0.5),
        server.usage()?.peak_mb,
        before
    );
    Ok(())
}
