//! `./dev peers`: compares this system over HTTP with DuckDB, Polars and plain DataFusion on the same
//! Parquet files, by typical queries of a data team, in one run on one machine.

mod answers;
mod ours;
mod plain;
mod task;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use acuvim_simulator::fleet::Meter;
use acuvim_wire::reading::READINGS as ALL;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    args::Args,
    loads::{READINGS, day_of, yesterday},
    server::Server,
    services::Deployment,
};
use answers::{Answers, Found};
use task::{QUESTIONS, Task};

const DEVICES: u32 = 1000;

/// The device that has days of its own, and how many.
const LONG: u32 = 5000;
const DAYS: i64 = 100;
const MONTH: i64 = 30;

const DAY_MS: i64 = 86_400_000;

pub async fn peers(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let settings = settings();
    let server = Server::start(args, deployment, "peers", &settings).await?;
    let dir = std::path::absolute(args.dir.join("peers"))?;
    let task = task(&dir)?;
    for part in 0..10 {
        day_of(&server, part * DEVICES / 10..(part + 1) * DEVICES / 10).await?;
    }
    let rows = i64::from(DEVICES) * READINGS;
    server.wait_for_lake(rows).await?;
    at_rest(&server, rows / 90).await?;
    let samples = rows as f64 * task.readings.len() as f64;
    println!(
        "peers    {:>9.2} bytes per sample ({rows} rows of {} readings, {} files)",
        server.lake_bytes().await? as f64 / samples,
        task.readings.len(),
        server.sum_of_metric("acuvim_lake_files{table=\"telemetry\"}").await?
    );
    let one_day = ours::ask(&server, &task, &["hour raw", "hourly by group", "top ten"]).await?;
    long_device(&server, &task).await?;
    server.wait_for_lake(rows + DAYS * READINGS).await?;
    at_rest(&server, rows / 90 + DAYS * 96).await?;
    let ours = ours::ask(&server, &task, &QUESTIONS).await?;
    let rolled = ours::rollups(&server, &task).await?;
    for (name, before) in &one_day {
        let now = ours.get(name).context("asked twice")?;
        println!("peers    {:>9.2} x with {DAYS} days in the table, {name}", now.ms / before.ms);
    }
    drop(server);
    let (mut found, files) = python(&dir, &task)?;
    found.insert("DataFusion".to_owned(), plain::ask(&task, &files).await?);
    report(&ours, &rolled, &found)?;
    with_tail(args, deployment, &settings, &task).await
}

fn settings() -> Vec<&'static str> {
    vec![
        "lake.compaction_interval_ms=500",
        "lake.flush_rows=500000",
        "lake.settle_minutes=0",
        "lake.rollup_interval_seconds=5",
        "http.requests_per_user=0",
        "http.requests_per_address=0",
        "sql.timeout_ms=600000",
        "sql.max_rows=100000",
    ]
}

fn task(dir: &Path) -> anyhow::Result<Task> {
    let day = yesterday();
    let device = |n: u32| Meter::new(1, n).device_id;
    let mut meter = Meter::new(1, 0);
    let sample: Value = serde_json::from_str(&meter.telemetry(day, "sd"))?;
    let sent = sample.pointer("/data").and_then(Value::as_object).context("a reading")?;
    let readings = ALL.iter().filter(|r| sent.contains_key(r.short)).map(|r| r.name).collect();
    Ok(Task {
        day: (day, day + DAY_MS),
        hour: day + 13 * DAY_MS / 24,
        month: (day - (MONTH + 1) * DAY_MS, day - DAY_MS),
        device: device(500),
        month_device: device(LONG),
        readings,
        out: dir.to_owned(),
        threads: std::thread::available_parallelism()?.get(),
    })
}

/// A hundred days of one device, before the day of all.
async fn long_device(server: &Server, task: &Task) -> anyhow::Result<()> {
    let connection = server.device(LONG).await?;
    let mut meter = Meter::new(1, LONG);
    let topic = format!("acuvim/{}/telemetry", task.month_device);
    let base = task.day.0 - (DAYS + 1) * DAY_MS;
    for part in 0..DAYS * READINGS / 480 {
        let lines: Vec<String> =
            (0..480).map(|i| meter.telemetry(base + (part * 480 + i) * 10_000, "sd")).collect();
        connection.publish(&topic, lines.join("\n"), false).await?;
    }
    Ok(())
}

/// Waits until files are in order and every quarter of an hour is in the rollup.
async fn at_rest(server: &Server, quarters: i64) -> anyhow::Result<()> {
    loop {
        let files = server.sum_of_metric("acuvim_lake_files").await?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let still = server.sum_of_metric("acuvim_lake_files").await?;
        let rolled = server.number("SELECT count(*) FROM rollup_15m", "lake").await?;
        if (files - still).abs() < 0.5 && rolled >= quarters {
            return Ok(());
        }
    }
}

/// What DuckDB and Polars answer, and the files that they read.
fn python(
    dir: &Path,
    task: &Task,
) -> anyhow::Result<(std::collections::BTreeMap<String, Answers>, Vec<String>)> {
    let mut child = Command::new("target/python/bin/python")
        .arg("benches/peers/peers.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("target/python: ./dev setup makes it")?;
    let asked = json!({
        "table": dir.join("lake/telemetry"), "from": task.day.0, "to": task.day.1,
        "hour": task.hour, "month_from": task.month.0, "month_to": task.month.1,
        "device": task.device, "month_device": task.month_device, "readings": task.readings,
        "out": task.out, "threads": task.threads
    });
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(asked.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "peers.py failed");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let files = answer.pointer("/files").cloned().context("files")?;
    let mut found = std::collections::BTreeMap::new();
    for (engine, answers) in answer.pointer("/found").and_then(Value::as_object).context("found")? {
        found.insert(engine.clone(), Answers::parse(answers)?);
    }
    Ok((found, serde_json::from_value(files)?))
}

/// Checks that all say the same, and prints how they compare.
fn report(
    ours: &Answers,
    rolled: &Answers,
    others: &std::collections::BTreeMap<String, Answers>,
) -> anyhow::Result<()> {
    let mut differ = Vec::new();
    for question in QUESTIONS {
        let us = ours.get(question).context("asked")?;
        let mut line = String::new();
        let mut fastest = f64::MAX;
        for (engine, answers) in others {
            let them = answers.get(question).with_context(|| format!("{engine}: {question}"))?;
            differ.extend(answers::same(question, &us.rows, engine, &them.rows).err());
            fastest = fastest.min(them.ms);
            line += &format!("  {engine} {:.1}", them.ms);
        }
        let rollup = match rolled.get(question) {
            Some(Found { ms, rows }) => {
                differ.extend(answers::same(question, &us.rows, "the rollup", rows).err());
                format!(", {:.2} x from rollups ({ms:.1} ms)", ms / fastest)
            }
            None => String::new(),
        };
        println!(
            "peers    {:>9.2} x of the fastest{rollup}, {question}: ours {:.1} ms {line}",
            us.ms / fastest,
            us.ms
        );
    }
    ensure!(differ.is_empty(), "answers differ: {differ:#?}");
    println!("peers    all give the same answers");
    Ok(())
}

/// The same questions with a full tail, and of the files alone.
async fn with_tail(
    args: &Args,
    deployment: &Deployment,
    settings: &[&'static str],
    task: &Task,
) -> anyhow::Result<()> {
    let mut hold: Vec<&str> = settings
        .iter()
        .copied()
        .filter(|s| !s.starts_with("lake.flush_rows") && !s.starts_with("lake.rollup"))
        .collect();
    hold.extend(["lake.flush_interval_ms=3600000", "lake.flush_rows=10000000"]);
    hold.push("lake.rollup_interval_seconds=86400");
    let server = Server::start_again(args, deployment, "peers", &hold).await?;
    let count = "SELECT count(*) FROM telemetry";
    while server.number(count, "hot").await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let names = ["hour raw", "hourly by group", "top ten"];
    let files = ours::ask(&server, task, &names).await?;
    // Devices that are not asked about, in the day that is: the tail is as full as it gets.
    for part in 0..5 {
        day_of(&server, 2000 + part * 10..2010 + part * 10).await?;
    }
    let tail = server.number(count, "hot").await? - server.number(count, "lake").await?;
    println!("peers    {tail:>9} rows in the tail, which is full");
    let hot = ours::ask(&server, task, &names).await?;
    for name in names {
        let (hot, files) = (hot.get(name).context("asked")?, files.get(name).context("asked")?);
        println!("peers    {:>9.2} x with a full tail, {name}", hot.ms / files.ms);
    }
    Ok(())
}
