//! The readings of one day, in as many passes as they need memory for.

use std::{ops::Range, sync::Arc};

use acuvim_lakehouse::{OfDevices, View, timestamp};
use acuvim_rules::{Inputs, Replay, Site};
use acuvim_tables::Table;
use acuvim_wire::Micros;
use datafusion::{
    catalog::TableProvider,
    functions::expr_fn::{encode, left, sha256},
    logical_expr::Expr,
    physical_plan::SendableRecordBatchStream,
    prelude::{col, ident, lit},
};
use futures::StreamExt as _;

use super::{error::BacktestError, run::Run};

/// Readings of one pass: sixteen bytes of memory each.
const PASS: usize = 10_000_000;

/// A pass over the devices whose hash lies in one of several equal parts. Ranges of ids could have very
/// different sizes.
#[derive(Debug, Clone, Copy)]
struct Pass {
    number: usize,
    of: usize,
}

impl Pass {
    /// Whether a row belongs to this pass; none if there is only one.
    fn filter(self) -> Option<Expr> {
        if self.of < 2 {
            return None;
        }
        let hash = left(encode(sha256(ident("device_id")), lit("hex")), lit(2_i64));
        let begin = |number: usize| lit(format!("{:02x}", number * 256 / self.of));
        let from = hash.clone().gt_eq(begin(self.number));
        let is_last = self.number + 1 == self.of;
        Some(if is_last { from } else { from.and(hash.lt(begin(self.number + 1))) })
    }
}

impl Run<'_> {
    /// Gives the replay the readings of some time within one day.
    pub(super) async fn day(
        &self,
        view: &View,
        replay: &mut Replay,
        range: Range<Micros>,
        site: &(dyn Fn(&str) -> Option<Arc<Site>> + Sync),
    ) -> Result<(), BacktestError> {
        let rows = self.parts.lake.rows_of_day(Table::Telemetry, range.start)?;
        let passes = rows.div_ceil(PASS).max(1);
        for number in 0..passes {
            let pass = Pass { number, of: passes };
            let mut stream = self.readings(view, range.clone(), pass).await?;
            while let Some(batch) = stream.next().await {
                replay.rows(&batch?, site)?;
            }
            replay.end_window();
        }
        Ok(())
    }

    async fn readings(
        &self,
        view: &View,
        range: Range<Micros>,
        pass: Pass,
    ) -> Result<SendableRecordBatchStream, BacktestError> {
        let telemetry = view.table(Table::Telemetry).ok_or(BacktestError::NoTelemetry)?;
        // Only rows that the caller sees: an error of a predicate would reveal something about another row.
        let telemetry: Arc<dyn TableProvider> = match &self.new.seen {
            Some(seen) => {
                let seen: Vec<String> = seen.iter().cloned().collect();
                Arc::new(OfDevices::new(telemetry, &seen))
            }
            None => telemetry,
        };
        let mut columns: Vec<String> =
            ["device_id", "ts", "received_at"].map(str::to_owned).to_vec();
        let needed = Inputs::columns_of(self.new.rule.needed());
        columns.extend(needed.into_iter().filter(|column| column != "ts"));
        let times = col("ts").gt_eq(timestamp(range.start)).and(col("ts").lt(timestamp(range.end)));
        let mut rows = self.parts.engine.session().read_table(telemetry)?.filter(times)?;
        if let Some(filter) = pass.filter() {
            rows = rows.filter(filter)?;
        }
        let rows = rows.select(columns.iter().map(ident).collect::<Vec<_>>())?;
        Ok(rows.execute_stream().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_cover_every_hash_once() {
        assert!(Pass { number: 0, of: 1 }.filter().is_none(), "one pass reads everything");
        let bounds: Vec<String> = (0..3)
            .map(|number| Pass { number, of: 3 }.filter().expect("a filter").to_string())
            .collect();
        for (number, from, to) in [(0, "00", Some("55")), (1, "55", Some("aa")), (2, "aa", None)] {
            let filter = &bounds[number];
            assert!(filter.contains(&format!(">= Utf8(\"{from}\")")), "{filter}");
            match to {
                Some(to) => assert!(filter.contains(&format!("< Utf8(\"{to}\")")), "{filter}"),
                None => assert!(!filter.contains("< Utf8"), "{filter}"),
            }
        }
    }
}
