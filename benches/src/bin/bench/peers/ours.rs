//! The questions, asked of the running server over HTTP.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    answers::{Answers, Found},
    task::{QUESTIONS, Task},
};
use crate::server::Server;

/// Each is asked so often after once that warms up, and the best time counts.
const TIMES: usize = 5;

fn text(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The SQL of a question, which is DataFusion's too.
pub fn sql(question: &str, task: &Task, table: &str) -> Option<String> {
    let (from, to) = (text(task.day.0), text(task.day.1));
    let day = format!("ts >= TIMESTAMP '{from}' AND ts < TIMESTAMP '{to}'");
    let group = "substr(device_id, 16, 1)";
    Some(match question {
        "last point" => format!(
            "SELECT device_id, last_value(active_power_total_kw ORDER BY ts) FROM {table} WHERE {day}
             GROUP BY device_id ORDER BY device_id"
        ),
        "hour raw" => {
            let (from, to) = (text(task.hour), text(task.hour + 3_600_000));
            format!(
                "SELECT ts, {} FROM {table} WHERE device_id = '{}' AND ts >= TIMESTAMP '{from}'
                 AND ts < TIMESTAMP '{to}' ORDER BY ts",
                task.readings.join(", "),
                task.device
            )
        }
        "day in 5 minutes" => {
            let bin = "date_bin(INTERVAL '5 minutes', ts)";
            format!(
                "SELECT avg(CAST(voltage_l1_v AS DOUBLE)), max(active_power_total_kw) FROM {table}
                 WHERE device_id = '{}' AND {day} GROUP BY {bin} ORDER BY {bin}",
                task.device
            )
        }
        "hourly by group" => format!(
            "SELECT {group} AS g, date_part('hour', ts) AS h,
               avg(CAST(active_power_total_kw AS DOUBLE)) FROM {table} WHERE {day}
             GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        "top ten" => format!(
            "SELECT device_id, max(current_avg_a) AS a FROM {table} WHERE {day} GROUP BY 1
             ORDER BY 2 DESC, 1 LIMIT 10"
        ),
        "over-voltage" => format!(
            "SELECT device_id, count(*) FROM {table} WHERE voltage_l1_v > 231.5 AND {day}
             GROUP BY 1 ORDER BY 1"
        ),
        "energy by day" => format!(
            "SELECT device_id, max(energy_import_kwh) - min(energy_import_kwh) FROM {table}
             WHERE {day} GROUP BY 1 ORDER BY 1"
        ),
        "wide scan" => {
            let avg = |name: &&str| format!("avg(CAST({name} AS DOUBLE))");
            let wide: Vec<String> = task.readings.iter().take(12).map(avg).collect();
            format!(
                "SELECT count(*), {} FROM {table} WHERE power_factor_total < 0.95
                 AND frequency_hz > 50 AND {day}",
                wide.join(", ")
            )
        }
        _ => return None,
    })
}

/// The same from the rollups, where they say it.
fn rollup_sql(question: &str, task: &Task) -> Option<String> {
    let (from, to) = (text(task.day.0), text(task.day.1));
    let day = format!("ts >= TIMESTAMP '{from}' AND ts < TIMESTAMP '{to}'");
    Some(match question {
        "hourly by group" => format!(
            "SELECT substr(device_id, 16, 1) AS g, date_part('hour', ts) AS h,
               sum(active_power_total_kw_avg * active_power_total_kw_count)
                 / sum(active_power_total_kw_count) FROM rollup_15m WHERE {day}
             GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        "top ten" => format!(
            "SELECT device_id, max(current_avg_a_max) AS a FROM rollup_daily WHERE {day} GROUP BY 1
             ORDER BY 2 DESC, 1 LIMIT 10"
        ),
        "energy by day" => format!(
            "SELECT device_id, sum(energy_import_kwh_delta) FROM rollup_daily WHERE {day}
             GROUP BY 1 ORDER BY 1"
        ),
        _ => return None,
    })
}

/// Asks questions in the way that is made for them.
pub async fn ask(server: &Server, task: &Task, questions: &[&str]) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    for question in questions {
        let found = match *question {
            "last point" => best(async || last_points(server, task).await).await?,
            "month as CSV" => best(async || csv(server, task).await).await?,
            "hour raw" => best(async || hour(server, task).await).await?,
            "day in 5 minutes" => best(async || five_minutes(server, task).await).await?,
            other => {
                let sql = sql(other, task, "telemetry").context("a question")?;
                best(async || rows(server, &sql).await).await?
            }
        };
        answers.put(question, found);
    }
    Ok(answers)
}

pub async fn rollups(server: &Server, task: &Task) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    for question in QUESTIONS {
        if let Some(sql) = rollup_sql(question, task) {
            answers.put(question, best(async || rows(server, &sql).await).await?);
        }
    }
    Ok(answers)
}

pub async fn best<T>(ask: T) -> anyhow::Result<Found>
where
    T: AsyncFn() -> anyhow::Result<Vec<Vec<Value>>>,
{
    let rows = ask().await?;
    let mut ms = f64::MAX;
    for _ in 0..TIMES {
        let begun = Instant::now();
        ask().await?;
        ms = ms.min(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Found { ms, rows })
}

async fn rows(server: &Server, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let answer = server.post("/api/sql", &json!({ "query": sql, "max_rows": 100_000 })).await?;
    Ok(serde_json::from_value(answer.pointer("/rows").cloned().context("rows")?)?)
}

async fn last_points(server: &Server, task: &Task) -> anyhow::Result<Vec<Vec<Value>>> {
    let page = server.get("/api/telemetry/latest?limit=2000&fields=active_power_total_kw").await?;
    let items = page.pointer("/items").and_then(Value::as_array).context("items")?;
    let row = |item: &Value| {
        let of = |path| item.pointer(path).cloned().unwrap_or_default();
        vec![of("/device_id"), of("/data/active_power_total_kw")]
    };
    // The one device whose days are others is not among those that the others are asked about.
    let other = |row: &Vec<Value>| row.first().and_then(Value::as_str) != Some(&task.month_device);
    Ok(items.iter().map(row).filter(other).collect())
}

async fn hour(server: &Server, task: &Task) -> anyhow::Result<Vec<Vec<Value>>> {
    let path = format!(
        "/api/devices/{}/telemetry/history?from={}&to={}&fields={}",
        task.device,
        text(task.hour),
        text(task.hour + 3_600_000),
        task.readings.join(",")
    );
    history(server, &path).await
}

async fn five_minutes(server: &Server, task: &Task) -> anyhow::Result<Vec<Vec<Value>>> {
    let path = format!(
        "/api/devices/{}/telemetry/history?from={}&to={}&interval=5m&agg=avg,max\
         &fields=voltage_l1_v,active_power_total_kw",
        task.device,
        text(task.day.0),
        text(task.day.1)
    );
    // The mean of the one and the greatest of the other.
    let rows = history(server, &path).await?;
    let pick = |row: Vec<Value>| [1, 4].iter().filter_map(|at| row.get(*at).cloned()).collect();
    Ok(rows.into_iter().map(pick).collect())
}

async fn history(server: &Server, path: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let page = server.get(path).await?;
    Ok(serde_json::from_value(page.pointer("/rows").cloned().context("rows")?)?)
}

async fn csv(server: &Server, task: &Task) -> anyhow::Result<Vec<Vec<Value>>> {
    let path = format!(
        "/api/devices/{}/telemetry/export?from={}&to={}&fields={}&format=csv",
        task.month_device,
        text(task.month.0),
        text(task.month.1),
        task.readings.join(",")
    );
    let lines = server.save(&path, &task.out.join("ours.csv")).await?;
    Ok(vec![vec![Value::from(lines.saturating_sub(1))]])
}
