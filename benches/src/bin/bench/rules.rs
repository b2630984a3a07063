//! The cost of rule evaluation: rules on the stream, states of a large fleet, the delay of alerts, backtests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    args::Args,
    loads::{READINGS, day_of, milliseconds, steady, yesterday},
    server::Server,
    services::Deployment,
};

/// As many rules as a large site has, of typical kinds. Few readings meet their conditions.
fn fifty_rules() -> Vec<Value> {
    let phases = ["l1", "l2", "l3"];
    let rule = |n: usize| {
        let phase = phases.get(n % 3).copied().unwrap_or("l1");
        let limit = 255 + n;
        let (when, clear) = match n % 5 {
            0 => (
                format!("voltage_{phase}_v > {limit}"),
                Some(format!("voltage_{phase}_v < {}", limit - 4)),
            ),
            1 => (format!("current_{phase}_a > 400 AND active_power_total_kw > {n}"), None),
            2 => (format!("abs(frequency_hz - 50) > 0.{}", 5 + n % 4), None),
            3 => (
                format!(
                    "greatest(voltage_l1_v, voltage_l2_v, voltage_l3_v) > {limit} \
                     OR least(voltage_l1_v, voltage_l2_v, voltage_l3_v) < {}",
                    100 - n
                ),
                None,
            ),
            _ => (format!("abs(power_factor_total) < 0.{} AND current_avg_a >= 1", 10 + n), None),
        };
        json!({
            "name": format!("rule {n}"), "alert_type": format!("t{}", n % 5), "when": when,
            "clear_when": clear, "for_seconds": 30, "clear_for_seconds": 30
        })
    };
    (0..50).map(rule).collect()
}

/// Replaces the rules of the first start by these.
async fn only(server: &Server, rules: &[Value]) -> anyhow::Result<Vec<Value>> {
    let stored = server.get("/api/rules").await?;
    for rule in stored.pointer("/items").and_then(Value::as_array).into_iter().flatten() {
        let id = rule.pointer("/id").and_then(Value::as_str).unwrap_or_default();
        server.delete(&format!("/api/rules/{id}")).await?;
    }
    let mut made = Vec::new();
    for rule in rules {
        made.push(server.post("/api/rules", rule).await?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(made)
}

/// The stream with no rules, and with fifty.
pub async fn rules(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    const DEVICES: u32 = 100;
    let mut rates = Vec::new();
    for (name, rules) in [("no rules", Vec::new()), ("50 rules", fifty_rules())] {
        let hold =
            ["lake.flush_interval_ms=3600000", "lake.flush_rows=10000000", "lake.max_tail_mb=16"];
        let server = Server::start(args, deployment, "rules", &hold).await?;
        only(&server, &rules).await?;
        day_of(&server, 0..DEVICES).await?;
        let rows = i64::from(DEVICES) * READINGS;
        let batches = u64::from(DEVICES) * (READINGS / 480).unsigned_abs();
        server.wait_for_metric("acuvim_ingest_stored_total{kind=\"telemetry\"}", batches).await?;
        server.kill()?;
        let fast = ["lake.compaction_interval_ms=3600000"];
        let server = Server::start_again(args, deployment, "rules", &fast).await?;
        let begun = Instant::now();
        server.wait_for_lake(rows).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let usage = server.usage()?;
        let rate = rows as f64 / usage.cpu_seconds;
        println!(
            "{} rules    {rate:>9.0} readings/CPU s from log to committed Parquet with {name} \
             ({rows} readings in {seconds:.1} s, {:.1} CPU s, peak {} MB)",
            deployment.name(),
            usage.cpu_seconds,
            usage.peak_mb
        );
        rates.push(rate);
    }
    if let [without, with] = rates.as_slice() {
        println!(
            "{} rules    {:>9.2} of the rate without rules",
            deployment.name(),
            with / without
        );
    }
    Ok(())
}

/// What is kept of 100,000 devices, with 50 rules of which some are open on each.
pub async fn states(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    const DEVICES: u32 = 100_000;
    let quick = ["health_monitor.check_interval_seconds=1", "lake.flush_interval_ms=2000"];
    let server = Server::start(args, deployment, "states", &quick).await?;
    only(&server, &fifty_rules()).await?;
    let before = server.resident_mb()?;
    let now = chrono::Utc::now().timestamp_millis();
    let mut load = Vec::new();
    for part in 0..20 {
        let connection = server.device(part).await?;
        load.push(tokio::spawn(async move {
            for n in (part..DEVICES).step_by(20) {
                // Pending under a few of them.
                let reading = json!({"ts": now, "v1": 300, "v2": 300, "v3": 300, "f": 50});
                let topic = format!("acuvim/S{n:06}/telemetry");
                connection.publish(&topic, reading.to_string(), false).await?;
            }
            anyhow::Ok(())
        }));
    }
    for part in load {
        part.await??;
    }
    let count = "SELECT count(*) FROM telemetry";
    while server.number(count, "hot").await? < i64::from(DEVICES) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let bytes = server.sum_of_metric("acuvim_judge_bytes").await?;
    println!(
        "{} states   {:>9.0} bytes of judgement per device at 100,000 devices with 50 rules, 16 of them \
         pending on each; the process grew from {before} to {} MB",
        deployment.name(),
        bytes / f64::from(DEVICES),
        server.resident_mb()?
    );
    Ok(())
}

/// From the PUBACK of the reading that completes an alert to the alert, at 2,000 messages a second.
pub async fn alerts(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let unlimited = ["http.requests_per_user=0", "http.requests_per_address=0"];
    let server = Server::start(args, deployment, "alerts", &unlimited).await?;
    let mut rules = fifty_rules();
    rules.push(json!({
        "name": "probe", "alert_type": "probe", "when": "frequency_hz > 59", "for_seconds": 1
    }));
    only(&server, &rules).await?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let load = steady(&server, end).await?;
    let probe = server.device(10_000).await?;
    let mut times = Vec::new();
    let mut ts = chrono::Utc::now().timestamp_millis() - 3_000_000;
    let mut raised = 0;
    while Instant::now() < end {
        let mut say = async |hertz: f64| {
            ts += 1000;
            let reading = json!({"ts": ts, "f": hertz}).to_string();
            probe.publish("acuvim/probe/telemetry", reading, false).await
        };
        say(60.0).await?;
        say(60.0).await?;
        let begun = Instant::now();
        raised += 1;
        while server.total("/api/alerts?type=probe&limit=1").await? < raised {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(begun.elapsed());
        say(50.0).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    load.join_all().await;
    let (probes, at) = (times.len(), milliseconds(&times));
    println!(
        "{} alerts   {:>9.0} ms p50, {:.0} ms p99, {:.0} ms at most from PUBACK to the alert over HTTP at \
         2,000 messages/s with 51 rules ({probes} probes)",
        deployment.name(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// One rule over a day of 1,000 devices.
pub async fn backtest(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    const DEVICES: u32 = 1000;
    let settings = ["lake.compaction_interval_ms=1000", "lake.flush_rows=500000"];
    let server = Server::start(args, deployment, "backtest", &settings).await?;
    only(&server, &[]).await?;
    for part in 0..10 {
        // A few connections at a time: the load generator shares the cores.
        day_of(&server, part * DEVICES / 10..(part + 1) * DEVICES / 10).await?;
    }
    let rows = i64::from(DEVICES) * READINGS;
    server.wait_for_lake(rows).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let from = chrono::DateTime::from_timestamp_millis(yesterday()).unwrap_or_default();
    let request = json!({
        "rule": {
            "name": "b", "alert_type": "b", "when": "voltage_l1_v > 231",
            "clear_when": "voltage_l1_v < 230", "for_seconds": 60, "clear_for_seconds": 60
        },
        "from": from, "to": from + chrono::TimeDelta::days(1)
    });
    let before = server.usage()?.peak_mb;
    for _ in 0..2 {
        let begun = Instant::now();
        let started = server.post("/api/rules/backtest", &request).await?;
        let id = started.pointer("/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let done = loop {
            let now = server.get(&format!("/api/rules/backtest/{id}")).await?;
            if now.pointer("/state").and_then(Value::as_str) != Some("running") {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        println!(
            "{} backtest {:>9.1} s for one rule over {} readings of {} devices: {} episodes (peak {before} MB before it, \
             {} MB behind)",
            deployment.name(),
            begun.elapsed().as_secs_f64(),
            done.pointer("/result/readings").unwrap_or(&Value::Null),
            done.pointer("/result/devices").unwrap_or(&Value::Null),
            done.pointer("/result/episodes").unwrap_or(&Value::Null),
            server.usage()?.peak_mb
        );
    }
    Ok(())
}
