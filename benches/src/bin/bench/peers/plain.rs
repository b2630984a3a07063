//! The questions, asked of DataFusion as it comes, on the lake's own files.

use std::sync::Arc;

use anyhow::Context as _;
use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    dataframe::DataFrameWriteOptions,
    datasource::{
        file_format::parquet::ParquetFormat,
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
    },
    prelude::{SessionConfig, SessionContext},
};
use serde_json::Value;

use super::{
    answers::Answers,
    ours::{best, sql},
    task::{QUESTIONS, Task},
};

pub async fn ask(task: &Task, files: &[String]) -> anyhow::Result<Answers> {
    let config = SessionConfig::new().with_target_partitions(task.threads);
    let context = SessionContext::new_with_config(config);
    let urls = files.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>, _>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
    let table = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
    let table = table.infer_schema(&context.state()).await?;
    context.register_table("t", Arc::new(ListingTable::try_new(table)?))?;
    let mut answers = Answers::default();
    for question in QUESTIONS {
        let found = match sql(question, task, "t") {
            Some(sql) => best(async || rows(&context, &sql).await).await?,
            None => best(async || csv(&context, task).await).await?,
        };
        answers.put(question, found);
    }
    Ok(answers)
}

async fn rows(context: &SessionContext, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let batches = context.sql(sql).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(values(batch)?);
    }
    Ok(rows)
}

fn values(batch: &RecordBatch) -> anyhow::Result<Vec<Vec<Value>>> {
    let options = FormatOptions::default();
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let cell = |column: &ArrayFormatter<'_>, row| Value::from(column.value(row).to_string());
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| cell(c, row)).collect()).collect())
}

async fn csv(context: &SessionContext, task: &Task) -> anyhow::Result<Vec<Vec<Value>>> {
    let text = |ms| chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339();
    let query = format!(
        "SELECT ts, received_at, source, connection, seq, boot, {} FROM t WHERE device_id = '{}' AND ts >= TIMESTAMP '{}' AND ts < TIMESTAMP '{}'
         ORDER BY ts",
        task.readings.join(", "),
        task.month_device,
        text(task.month.0),
        text(task.month.1)
    );
    let out = task.out.join("datafusion.csv");
    let path = out.to_str().context("a path")?;
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    context.sql(&query).await?.write_csv(path, options, None).await?;
    let lines = std::fs::read_to_string(&out)?.lines().count();
    Ok(vec![vec![Value::from(lines.saturating_sub(1))]])
}
