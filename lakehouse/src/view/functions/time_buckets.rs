//! `time_buckets(interval, from, to[, tz])`: a table with the beginnings of all buckets between two times.
//! With `time_buckets(...) b LEFT JOIN ... ON ... = b.bucket`, buckets without readings get rows too.

use std::sync::Arc;

use acuvim_tables::timestamp;
use acuvim_wire::time::{Micros, parse_rfc3339};
use arrow::{
    array::{RecordBatch, TimestampMicrosecondArray},
    datatypes::{Field, Schema},
};
use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{ScalarValue, plan_datafusion_err, plan_err},
    datasource::MemTable,
    error::Result,
    logical_expr::Expr,
};

use super::bucket::{Buckets, IRREGULAR, Interval};

/// The most rows of the table.
const MAX_BUCKETS: usize = 100_000;

#[derive(Debug)]
pub(super) struct TimeBuckets;

impl TableFunctionImpl for TimeBuckets {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let texts = args.exprs().iter().map(text).collect::<Result<Vec<_>>>()?;
        let (interval, from, to, tz) = match texts.as_slice() {
            [interval, from, to] => (*interval, *from, *to, "UTC"),
            [interval, from, to, tz] => (*interval, *from, *to, *tz),
            _ => {
                return plan_err!(
                    "time_buckets takes an interval, a beginning, an end and optionally a time zone"
                );
            }
        };
        let interval = Interval::parse(interval).ok_or_else(|| {
            plan_datafusion_err!("an interval is '10s', '15m', '1h', '1d', '1w', '1mo' or '1y'")
        })?;
        let tz = tz.parse().map_err(|_| {
            plan_datafusion_err!(
                "'{tz}' is not a time zone; use a name such as Africa/Johannesburg"
            )
        })?;
        let buckets =
            Buckets::new(interval, tz).ok_or_else(|| plan_datafusion_err!("{IRREGULAR}"))?;
        let starts = starts(buckets, moment(from)?, moment(to)?)?;
        let schema = Arc::new(Schema::new(vec![Field::new("bucket", timestamp(), false)]));
        let starts = TimestampMicrosecondArray::from(starts).with_timezone("UTC");
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(starts)])?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
    }
}

fn starts(buckets: Buckets, from: Micros, to: Micros) -> Result<Vec<Micros>> {
    let mut starts = Vec::new();
    let mut next = buckets.start(from);
    while let Some(start) = next.filter(|start| *start < to) {
        // The table is made while the query is planned, outside the memory pool, so its size needs
        // a limit of its own.
        if starts.len() >= MAX_BUCKETS {
            return plan_err!(
                "more than {MAX_BUCKETS} buckets: take a longer interval or less time"
            );
        }
        starts.push(start);
        next = buckets.next(start);
    }
    Ok(starts)
}

fn text(arg: &Expr) -> Result<&str> {
    match arg {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Ok(text),
        other => plan_err!(
            "time_buckets takes texts, such as '1h' and '2026-05-01T00:00:00Z', not {other}"
        ),
    }
}

fn moment(text: &str) -> Result<Micros> {
    parse_rfc3339(text).ok_or_else(|| {
        plan_datafusion_err!("'{text}' is not a time; use one such as 2026-05-01T00:00:00Z")
    })
}

#[cfg(test)]
mod tests;
