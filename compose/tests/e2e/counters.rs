//! Consumption by energy counters is the same in SQL, history, rollups and the dashboard, whatever the
//! registers showed in between and in whatever order the readings arrived.

use std::{collections::BTreeMap, time::Instant};

use acuvim_wire::time::{DAY, SECOND, to_rfc3339};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, T0, pause};

/// T0 is in milliseconds.
const START: i64 = T0 * 1000;

/// Readings of each device, and the seconds between them: a few quarters of an hour in all.
const READINGS: i64 = 60;
const STEP: i64 = 70;

/// A device's readings in hundredths of a kWh, the true consumption, and the tolerance.
struct Story {
    shown: Vec<i64>,
    truth: i64,
    slack: i64,
}

fn story(random: &mut StdRng) -> Story {
    let mut counter = random.random_range(100_000..5_000_000_i64);
    let mut story = Story { shown: Vec::new(), truth: 0, slack: 0 };
    for n in 0..READINGS {
        let step = random.random_range(0..200);
        counter += step;
        story.truth += if n == 0 { 0 } else { step };
        let glitch = if n == READINGS - 1 { 20 } else { random.random_range(0..20) };
        // An error can't be larger than the steps next to it.
        story.slack += if glitch < 3 { 450 } else { 0 };
        story.shown.push(match glitch {
            0 => 0,
            1 => counter + random.random_range(1000..1_000_000_000),
            2 => {
                counter = 0;
                0
            }
            _ => counter,
        });
    }
    story
}

/// Sends readings in batches, one message each.
async fn send(server: &Server, stories: &[Story], order: &[i64]) {
    for (n, story) in stories.iter().enumerate() {
        let device = server.device(&format!("m{n}")).await;
        let reading = |at: &i64| {
            let kwh = story.shown[usize::try_from(*at).expect("small")] as f64 / 100.0;
            json!({"ts": to_rfc3339(START + at * STEP * SECOND), "ei": kwh})
        };
        let readings: Vec<Value> = order.iter().map(reading).collect();
        let topic = format!("acuvim/m{n}/telemetry");
        let batch = json!({"batch": readings}).to_string();
        device.publish(&topic, batch, false).await.expect("ack");
        device.close().await;
    }
}

async fn sums(server: &Server, sql: &str) -> BTreeMap<String, f64> {
    let rows = server.sql(sql).await.rows.into_iter();
    rows.map(|row| {
        let sum = row[1].as_f64().or_else(|| row[1].as_str().and_then(|s| s.parse().ok()));
        (row[0].as_str().expect("an id").to_owned(), sum.expect("a number"))
    })
    .collect()
}

/// The sum over a device's buckets.
async fn history(server: &Server, device: &str, interval: &str) -> f64 {
    let (from, to) = (to_rfc3339(START - DAY), to_rfc3339(START + DAY));
    let path = format!(
        "/api/devices/{device}/telemetry/history?from={from}&to={to}&fields=energy_import_kwh\
         &interval={interval}&agg=delta&limit=1000"
    );
    let page: Value = server.get(&path).await.json().await.expect("json");
    let rows = page["rows"].as_array().unwrap_or_else(|| panic!("{page}"));
    rows.iter().filter_map(|row| row[1].as_f64()).sum()
}

async fn all_alike(server: &Server, stories: &[Story], part: usize) {
    let sql = "SELECT device_id, counter_delta(energy_import_kwh, ts) FROM telemetry GROUP BY 1";
    let by_sql = sums(server, sql).await;
    let rolled = |table: &str| {
        format!(
            "SELECT device_id, CAST(sum(energy_import_kwh_delta) AS DOUBLE) FROM {table} GROUP BY 1"
        )
    };
    let (quarters, days) =
        (sums(server, &rolled("rollup_15m")).await, sums(server, &rolled("rollup_daily")).await);
    let mut all = 0.0;
    for (n, story) in stories.iter().enumerate() {
        let id = format!("m{n}");
        let found = [
            by_sql[&id],
            quarters[&id],
            days[&id],
            history(server, &id, "1m").await,
            history(server, &id, "15m").await,
            history(server, &id, "1d").await,
        ];
        let same = found.iter().all(|sum| (sum - found[0]).abs() < 0.006);
        assert!(same, "{id} in portion {part}: {found:?} of {:?}", story.shown);
        all += found[0];
        if part == usize::MAX {
            let off = found[0] - story.truth as f64 / 100.0;
            assert!(
                off.abs() <= story.slack as f64 / 100.0 + 0.006,
                "{id}: {off} {:?}",
                story.shown
            );
        }
    }
    let (from, to) = (to_rfc3339(START - DAY), to_rfc3339(START + DAY));
    let stats: Value = server
        .get(&format!("/api/dashboard/stats?from={from}&to={to}"))
        .await
        .json()
        .await
        .expect("json");
    let told = stats["energy"]["import_kwh"].as_f64().unwrap_or_else(|| panic!("{stats}"));
    assert!((told - all).abs() < 0.1, "the dashboard says {told}, not {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_ask_counts_the_same_whatever_the_registers_showed() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["lake.flush_interval_ms=300", "lake.rollup_interval_seconds=1"];
    let server = Server::start(dir.path(), &set).await;
    let seed = std::env::var("ACUVIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = StdRng::seed_from_u64(seed.unwrap_or(20));
    let stories: Vec<Story> = (0..6).map(|_| story(&mut random)).collect();
    let mut order: Vec<i64> = (0..READINGS).collect();
    // Half of the readings in order, the other half late and in random order.
    order[30..].shuffle(&mut random);
    let mut sent = 0;
    for (part, portion) in order.chunks(20).enumerate() {
        send(&server, &stories, portion).await;
        sent += portion.len() * stories.len();
        let want = i64::try_from(sent).expect("small");
        server
            .wait_for("SELECT CAST(coalesce(sum(samples), 0) AS BIGINT) FROM rollup_15m", want)
            .await;
        server
            .wait_for("SELECT CAST(coalesce(sum(samples), 0) AS BIGINT) FROM rollup_daily", want)
            .await;
        let last = sent == order.len() * stories.len();
        all_alike(&server, &stories, if last { usize::MAX } else { part }).await;
    }
    // Suspect readings are stored unchanged and reported.
    let stored = server.number("SELECT count(*) FROM telemetry WHERE energy_import_kwh = 0").await;
    let zeros = stories.iter().flat_map(|s| &s.shown).filter(|shown| **shown == 0).count();
    assert_eq!(stored, i64::try_from(zeros).expect("small"));
    let told = "SELECT count(*) FROM device_events WHERE event = 'counter_suspect'";
    let begun = Instant::now();
    while server.number(told).await == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is told");
        pause(begun).await;
    }
    server.stop().await;
}
