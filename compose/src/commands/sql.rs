//! `acuvim sql`: asks a running server and prints a table, or CSV.

use std::{fmt::Write as _, io::Write as _};

use acuvim_schemas::{
    api::{LoginRequest, LoginResponse, SqlResponse},
    problem::Problem,
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::say;
use crate::{admin::PASSWORD_FILE, cli::SqlArgs};

/// Asks and prints.
pub async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let token = match &args.key {
        Some(key) => key.clone(),
        None => login(&client, &args).await?,
    };
    let format = if args.csv { "csv" } else { "json" };
    let consistency = if args.lake { "lake" } else { "hot" };
    let answer = client
        .post(format!("{}/api/sql", args.url))
        .bearer_auth(token)
        .json(&json!({"query": args.query, "format": format, "consistency": consistency}))
        .send()
        .await
        .with_context(|| format!("no server answers at {} (--url)", args.url))?;
    let answer = checked(answer).await?;
    if args.csv {
        std::io::stdout().write_all(answer.text().await?.as_bytes())?;
        return Ok(());
    }
    say(table(&answer.json().await?))
}

/// As the first admin, while its password is still the one of the first start.
async fn login(client: &reqwest::Client, args: &SqlArgs) -> anyhow::Result<String> {
    let file = args.data_dir.join(PASSWORD_FILE);
    let password = std::fs::read_to_string(&file).with_context(|| {
        format!("give --key (or ACUVIM_KEY); there is no {} either", file.display())
    })?;
    let answer = client
        .post(format!("{}/api/auth/login", args.url))
        .json(&LoginRequest { username: "admin".to_owned(), password })
        .send()
        .await
        .with_context(|| format!("no server answers at {} (--url)", args.url))?;
    Ok(checked(answer).await?.json::<LoginResponse>().await?.access_token)
}

async fn checked(answer: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    match answer.json::<Problem>().await {
        Ok(problem) => bail!("{}: {}", problem.title, problem.detail),
        Err(_) => bail!("the server answered {status}"),
    }
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
