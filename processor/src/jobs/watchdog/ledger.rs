//! Compares the ledger with the log and the tables: every record of the log must be counted exactly
//! once, and the tables must hold exactly the rows that were counted.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::Duration,
};

use acuvim_control::SystemCondition;
use acuvim_lakehouse::Error;
use acuvim_log::{LogTopic, ReadLimit};
use acuvim_tables::{
    Table,
    ledger::{Counts, LedgerRow},
};
use acuvim_wire::{Kind, Micros, Record, payload::Severity};
use serde_json::json;

use crate::dependencies::Dependencies;

/// The most offsets of a partition that one check compares.
const MAX_OFFSETS: i64 = 200_000;

/// The most runs of missing offsets that an alert's message names, and that its metadata lists.
const NAMED_RUNS: usize = 20;
const LISTED_RUNS: usize = 1000;

/// The most records that are looked up one by one to find the missing ones.
const MAX_LOOKUPS: usize = 1000;

/// Remembers up to which offset each partition has been compared.
#[derive(Debug, Default)]
pub(crate) struct LedgerCheck {
    checked: HashMap<u32, i64>,
}

/// How many rows each table has of the record at an offset.
type RowCounts = HashMap<Table, HashMap<i64, i64>>;

impl LedgerCheck {
    /// Compares what was committed since the last check, and returns the faults.
    pub async fn check(
        &mut self,
        dependencies: &Dependencies,
    ) -> Result<Vec<SystemCondition>, Error> {
        dependencies.lake.catch_up().await?;
        let mut found = Vec::new();
        for partition in 0..dependencies.log.partitions() {
            found.extend(self.check_partition(dependencies, partition).await?);
        }
        metrics::counter!("acuvim_ledger_faults_total").increment(found.len() as u64);
        Ok(found)
    }

    async fn check_partition(
        &mut self,
        dependencies: &Dependencies,
        partition: u32,
    ) -> Result<Vec<SystemCondition>, Error> {
        let lake = &dependencies.lake;
        let covered = lake.next_offset(partition);
        let from = self.checked.get(&partition).copied();
        // The first check begins with the oldest ledger row within reach.
        let reach = from.unwrap_or(covered - MAX_OFFSETS);
        let mut rows = lake.ledger_from(partition, reach).await?;
        if from.is_none()
            && let Some(dropped) = dropped_at(dependencies).await?
        {
            // Retention may have removed rows of records from before then. They were compared
            // earlier, by the process that ran at the time.
            let first = rows.partition_point(|row| row.minute <= dropped);
            rows.drain(..first);
        }
        let spans = whole_spans(&rows, from, covered);
        let Some((from, until)) = from
            .or_else(|| spans.first().map(|(span, _)| span.start))
            .zip(spans.last().map(|(span, _)| span.end))
        else {
            return Ok(Vec::new());
        };
        let mut stored = RowCounts::new();
        for table in [Table::Telemetry, Table::Heartbeats, Table::DeadLetters] {
            stored.insert(table, lake.rows_by_offset(table, partition, from, until).await?);
        }
        let mut found = gaps(partition, &spans, from);
        for (span, counts) in &spans {
            let faults = faults(span, counts, &stored);
            if !faults.is_empty() {
                let missing = missing(dependencies, partition, span, &stored).await;
                found.push(condition(partition, span, &faults.join("; "), &missing));
            }
        }
        if !found.is_empty() {
            tracing::warn!(partition, faults = found.len(), "the ledger does not balance");
        }
        // Also after faults: each is reported once.
        self.checked.insert(partition, until);
        Ok(found)
    }
}

/// When retention last dropped days of one of the tables that are compared.
async fn dropped_at(dependencies: &Dependencies) -> Result<Option<Micros>, Error> {
    let mut last = None;
    for table in [Table::Telemetry, Table::Heartbeats, Table::DeadLetters] {
        last = last.max(dependencies.lake.retained_at(table).await?);
    }
    Ok(last)
}

/// The spans to compare now: those that `telemetry` covers as a whole, up to the limit of one
/// check. At the first check the oldest span may be cut off at its beginning, so it is left out.
fn whole_spans(rows: &[LedgerRow], from: Option<i64>, covered: i64) -> Vec<(Range<i64>, Counts)> {
    let spans = spans(rows);
    let cut = usize::from(from.is_none() && spans.first().is_some_and(|(s, _)| s.start > 0));
    let behind = |span: &Range<i64>| from.is_none_or(|from| span.start >= from);
    let mut spans: Vec<_> = spans.into_iter().skip(cut).filter(|(span, _)| behind(span)).collect();
    let whole = spans.iter().take_while(|(span, _)| span.end <= covered).count();
    spans.truncate(whole);
    let most = spans.first().map_or(0, |(span, _)| span.start + MAX_OFFSETS);
    let room = spans.iter().take_while(|(span, _)| span.end <= most).count();
    spans.truncate(room.max(1));
    spans
}

/// The spans of offsets that ledger rows count, in order; rows that overlap become one span. They
/// overlap because one flush writes a row per minute, and records are not in the order of their
/// minutes.
fn spans(rows: &[LedgerRow]) -> Vec<(Range<i64>, Counts)> {
    let mut spans: Vec<(Range<i64>, Counts)> = Vec::new();
    for row in rows {
        match spans.last_mut() {
            Some((span, counts)) if row.first.offset < span.end => {
                span.end = span.end.max(row.next);
                counts.add(&row.counts);
            }
            _ => spans.push((row.first.offset..row.next, row.counts)),
        }
    }
    spans
}

/// Faults for offsets before or between spans, which no ledger row counts.
fn gaps(partition: u32, spans: &[(Range<i64>, Counts)], from: i64) -> Vec<SystemCondition> {
    let (mut found, mut at) = (Vec::new(), from);
    for (span, _) in spans {
        if span.start > at {
            let message = format!("offsets {at} to {} were never counted", span.start - 1);
            found.push(condition(partition, &(at..span.start), &message, &[]));
        }
        at = at.max(span.end);
    }
    found
}

/// The differences between the counts of one span and the tables.
fn faults(span: &Range<i64>, counts: &Counts, stored: &RowCounts) -> Vec<String> {
    let mut faults = Vec::new();
    let tables = [
        (Table::Telemetry, counts.stored),
        (Table::Heartbeats, counts.heartbeats),
        (Table::DeadLetters, counts.dead_letters + counts.same_ts),
    ];
    for (table, expected) in tables {
        let rows = stored.get(&table).into_iter().flatten();
        let found: i64 = rows.filter(|(o, _)| span.contains(o)).map(|(_, n)| n).sum();
        if found != expected {
            faults.push(format!("{} has {found} rows of {expected} counted", table.name()));
        }
    }
    if counts.unaccounted() != 0 {
        let (received, lost) = (counts.received, counts.unaccounted());
        faults.push(format!("of {received} received {lost} are unaccounted for"));
    }
    if counts.records != span.end - span.start {
        faults.push(format!("{} records were counted", counts.records));
    }
    faults
}

/// The offsets of readings and heartbeats that no table has a row of. A duplicate has none either,
/// so its reading is looked up under every identity before it is reported.
async fn missing(
    dependencies: &Dependencies,
    partition: u32,
    span: &Range<i64>,
    stored: &RowCounts,
) -> Vec<i64> {
    let (mut missing, mut at) = (Vec::new(), span.start);
    let limit = ReadLimit { records: 4096, bytes: 4 << 20, wait: Duration::ZERO };
    let mut lookups = 0;
    while at < span.end {
        let read = dependencies.log.read(LogTopic::Uplink, partition, at, limit).await;
        let Ok(batch) = read else { break };
        if batch.entries.is_empty() {
            break;
        }
        for (offset, entry) in batch.entries.iter().filter(|(o, _)| *o < span.end) {
            let Ok(record) = Record::try_from(entry) else { continue };
            let has_row = matches!(record.headers.kind, Kind::Telemetry | Kind::Heartbeat);
            let is_there = stored.values().any(|rows| rows.contains_key(offset));
            if !has_row || is_there {
                continue;
            }
            lookups += 1;
            if lookups > MAX_LOOKUPS {
                return missing;
            }
            if !is_stored(dependencies, &record).await {
                missing.push(*offset);
            }
        }
        at = batch.next;
    }
    missing
}

/// Whether a record's first reading is stored under another identity, which makes it a duplicate.
async fn is_stored(dependencies: &Dependencies, record: &Record) -> bool {
    let value = acuvim_wire::payload::fields(&record.value).ok();
    let ts = value.as_ref().and_then(|v| v.get("ts")).cloned();
    let ts: Option<acuvim_wire::payload::EventTime> =
        ts.and_then(|ts| serde_json::from_value(ts).ok());
    let (Some(ts), Ok(device)) = (ts, std::str::from_utf8(&record.key)) else { return false };
    let table = match record.headers.kind {
        Kind::Heartbeat => Table::Heartbeats,
        _ => Table::Telemetry,
    };
    let wanted = HashSet::from([(device.into(), acuvim_wire::time::day_of(ts.0))]);
    let times = dependencies.lake.stored_times(table, &wanted).await;
    times.is_ok_and(|times| times.values().flatten().any(|t| *t == ts.0))
}

fn condition(partition: u32, span: &Range<i64>, fault: &str, missing: &[i64]) -> SystemCondition {
    let runs = runs(missing);
    let named: Vec<String> = runs
        .iter()
        .take(NAMED_RUNS)
        .map(|(from, to)| match from == to {
            true => from.to_string(),
            false => format!("{from} to {to}"),
        })
        .collect();
    let at = match named.is_empty() {
        true => String::new(),
        false => format!("; in no table: {}", named.join(", ")),
    };
    SystemCondition {
        alert_type: "ledger_unbalanced",
        subject: format!("{partition}/{}", span.start),
        severity: Severity::Critical,
        message: format!(
            "partition {partition}, offsets {} to {}: {fault}{at}. The log keeps these records: \
             replay them from there before they are dropped",
            span.start,
            span.end - 1
        ),
        metadata: json!({
            "partition": partition,
            "first_offset": span.start,
            "last_offset": span.end - 1,
            "missing_offsets": runs.iter().take(LISTED_RUNS).collect::<Vec<_>>(),
        }),
    }
}

/// Sorted numbers as runs of consecutive ones, first and last.
fn runs(numbers: &[i64]) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
