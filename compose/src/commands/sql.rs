//! `acuvim sql`: sends a query to a running server and prints the answer as a table or CSV.

use std::{fmt::Write as _, io::Write as _};

use acuvim_model::SqlResponse;
use serde_json::{Value, json};

use super::{client::Client, print_line};
use crate::cli::SqlArgs;

/// Sends the query and prints the answer.
pub async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let server = Client::new(&args.server).await?;
    let format = if args.csv { "csv" } else { "json" };
    let consistency = if args.lake { "lake" } else { "hot" };
    let request = json!({"query": args.query, "format": format, "consistency": consistency});
    let answer = server.send(server.post("/api/sql").json(&request)).await?;
    if args.csv {
        std::io::stdout().write_all(answer.text().await?.as_bytes())?;
        return Ok(());
    }
    print_line(table(&answer.json().await?))
}

fn table(answer: &SqlResponse) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut lines: Vec<Vec<String>> = vec![answer.columns.iter().map(|c| c.name.clone()).collect()];
    lines.extend(answer.rows.iter().map(|row| row.iter().map(text).collect()));
    let widths: Vec<usize> = (0..answer.columns.len())
        .map(|c| {
            lines.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let cut = if answer.truncated { ", more were left out" } else { "" };
    let _ = write!(out, "({} rows{cut}; {} ms)", answer.row_count, answer.elapsed_ms);
    out
}
