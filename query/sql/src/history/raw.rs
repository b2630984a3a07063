//! A page of readings as they are.

use acuvim_tables::Table;
use acuvim_wire::Micros;
use arrow::array::RecordBatch;
use datafusion::{error::Result as EngineResult, prelude::SessionContext};

use super::{
    page::{Page, PageRows},
    request::{Cursor, HistoryRequest, Order},
    site::{Site, site_rows, times},
};

/// Reads a page.
pub(super) async fn page(
    context: &SessionContext,
    site: &Site,
    request: &HistoryRequest,
) -> EngineResult<Page> {
    let (mut from, mut to) = (request.from, request.to);
    let mut skip = 0;
    if let Some(cursor) = request.cursor {
        skip = usize::try_from(cursor.beside).unwrap_or(0);
        match request.order {
            Order::Ascending => from = from.max(cursor.at),
            // The end of a range is not in it, and readings of the cursor's time may still be missing.
            Order::Descending => to = to.min(cursor.at.saturating_add(1)),
        }
    }
    let names: Vec<&str> = request.fields.iter().map(|r| r.name).collect();
    let rows = site_rows(context, Table::Telemetry, site, from..to, &names, request.order).await?;
    let batches = rows.limit(skip, Some(request.limit + 1))?.collect().await?;
    let times: Vec<Micros> = batches.iter().flat_map(|batch| times(batch).to_vec()).collect();
    let more = times.len() > request.limit;
    // A page may end between two readings of the same time: the cursor counts those that were answered.
    let cursor = times.get(request.limit.wrapping_sub(1)).filter(|_| more).map(|last| {
        let same = times.iter().take(request.limit).rev().take_while(|ts| *ts == last).count();
        let before = if request.cursor.is_some_and(|c| c.at == *last) { skip } else { 0 };
        Cursor { at: *last, beside: i64::try_from(same + before).unwrap_or(i64::MAX) }
    });
    Ok(Page { rows: PageRows::Read(first_rows(batches, request.limit)), next: cursor })
}

/// The first `left` rows.
fn first_rows(batches: Vec<RecordBatch>, mut left: usize) -> Vec<RecordBatch> {
    let first = |batch: RecordBatch| {
        let kept = batch.num_rows().min(left);
        left -= kept;
        batch.slice(0, kept)
    };
    batches.into_iter().map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    #[test]
    fn a_page_has_the_first_rows_of_its_batches() {
        let batch = |rows: i64| {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
            RecordBatch::try_from_iter([("n", numbers)]).expect("rows")
        };
        let first = first_rows(vec![batch(3), batch(3), batch(3)], 4);
        let counts: Vec<usize> = first.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(counts, [3, 1, 0]);
    }
}
