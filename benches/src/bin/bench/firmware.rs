//! Firmware: a thousand concurrent downloads in small ranges, update checks at a steady rate, and the
//! validation of an image.

use std::time::{Duration, Instant};

use acuvim_firmware_registry::{ImageCheck, Sample};
use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{args::Args, server::Server, services::Deployment};

const DEVICES: usize = 1000;

/// Bytes of the image, and of a range.
const IMAGE: usize = 1_500_000;
const RANGE: usize = 4096;

/// Checks a second.
const CHECKS: u32 = 1000;

/// Uploads, checks and downloads.
pub async fn firmware(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    validation()?;
    let set = ["http.requests_per_user=0", "http.requests_per_address=0"];
    let server = Server::start(args, deployment, "firmware", &set).await?;
    let image = Sample::application("1.2.0", IMAGE).bytes();
    server.upload("1.2.0", &image).await?;
    let secrets = devices(&server).await?;
    checks(args, &server, &secrets).await?;
    downloads(&server, &secrets, image.len()).await
}

/// The validation of an image in one thread.
fn validation() -> anyhow::Result<()> {
    let image = Sample::application("1.2.0", 1_900_000).bytes();
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        let mut check = ImageCheck::new(1 << 24);
        for chunk in image.chunks(16 << 10) {
            check.update(chunk)?;
        }
        check.finish()?;
        bytes += image.len();
    }
    let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("firmware {rate:>9.0} MB/s of CPU time, the check of an image");
    Ok(())
}

/// Creates the devices; returns their ids and secrets.
async fn devices(server: &Server) -> anyhow::Result<Vec<(String, String)>> {
    let ids = (0..DEVICES).map(|n| format!("ACV-{n:012X}\n"));
    let made = server.import_devices(&format!("device_id\n{}", ids.collect::<String>())).await?;
    let mut lines = made.lines();
    let head: Vec<&str> = lines.next().context("a header")?.split(',').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).context("a column");
    let (id, secret) = (column("device_id")?, column("mqtt_password")?);
    let pair = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        Some(((*cells.get(id)?).to_owned(), (*cells.get(secret)?).to_owned()))
    };
    let secrets: Vec<_> = lines.filter_map(pair).collect();
    ensure!(secrets.len() == DEVICES, "{} devices", secrets.len());
    Ok(secrets)
}

async fn checks(args: &Args, server: &Server, secrets: &[(String, String)]) -> anyhow::Result<()> {
    let cpu = server.usage()?.cpu_seconds;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHECKS);
    let mut asked = Vec::new();
    let begun = Instant::now();
    for (id, secret) in secrets.iter().cycle() {
        if begun.elapsed() > Duration::from_secs(args.seconds.min(10)) {
            break;
        }
        ticks.tick().await;
        let check = server.check_firmware(id, secret);
        asked.push(tokio::spawn(async move {
            let begun = Instant::now();
            let answer: Value = check.await?;
            anyhow::ensure!(
                answer.pointer("/update_available") == Some(&Value::Bool(true)),
                "{answer}"
            );
            Ok(begun.elapsed())
        }));
    }
    let (count, took) = (asked.len(), begun.elapsed().as_secs_f64());
    let mut times = Vec::new();
    for one in asked {
        times.push(one.await??);
    }
    times.sort_unstable();
    let part = |part: f64| {
        let n = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times.get(n).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let cpu = server.usage()?.cpu_seconds - cpu;
    println!(
        "firmware {:>9.0} checks/s, p50 {:.1} ms, p99 {:.1} ms, {:.2} ms of CPU each",
        count as f64 / took,
        part(0.5),
        part(0.99),
        cpu * 1000.0 / count as f64
    );
    Ok(())
}

async fn downloads(
    server: &Server,
    secrets: &[(String, String)],
    size: usize,
) -> anyhow::Result<()> {
    let mut urls = Vec::new();
    for (id, secret) in secrets {
        let answer = server.check_firmware(id, secret).await?;
        urls.push(answer.pointer("/url").and_then(Value::as_str).context("a URL")?.to_owned());
    }
    let (before, cpu) = (server.resident_mb()?, server.usage()?.cpu_seconds);
    let (begun, client) = (Instant::now(), reqwest::Client::new());
    let loads: Vec<_> = urls
        .into_iter()
        .map(|url| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut got = 0;
                while got < size {
                    let range = format!("bytes={got}-{}", got + RANGE - 1);
                    let part = client.get(&url).header("range", range).send().await?;
                    got += part.error_for_status()?.bytes().await?.len();
                }
                anyhow::Ok(got)
            })
        })
        .collect();
    let mut most = before;
    while loads.iter().any(|load| !load.is_finished()) {
        most = most.max(server.resident_mb()?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut bytes = 0;
    for load in loads {
        bytes += load.await??;
    }
    let took = begun.elapsed().as_secs_f64();
    let ranges = bytes.div_ceil(RANGE);
    println!(
        "firmware {most:>9} MB at most ({before} before) with {DEVICES} downloads of {IMAGE} bytes in \
         ranges of {RANGE} at once: {:.0} ranges/s, {:.3} ms of CPU each",
        ranges as f64 / took,
        (server.usage()?.cpu_seconds - cpu) * 1000.0 / ranges as f64
    );
    Ok(())
}
