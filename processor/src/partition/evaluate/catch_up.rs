//! Reads rows back from the lake that control has no evaluation of: after a crash between a flush
//! and the write to control.

use std::{collections::HashMap, ops::Range, sync::Arc};

use acuvim_wire::Micros;
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};

use crate::{fatal::Fatal, partition::context::Context};

/// Offsets whose rows are read back at a time.
const PAGE: i64 = 65_536;

/// Committed rows that have yet to be evaluated.
pub(super) struct CatchUp {
    /// The newest evaluated reading of each device.
    pub newest: HashMap<Arc<str>, Micros>,
    /// The offset at which the new rows begin.
    pub lake_at: i64,
    /// The page that was read last, which may hold the rows of several batches.
    page: Option<Page>,
}

struct Page {
    rows: RecordBatch,
    offsets: Range<i64>,
}

impl CatchUp {
    pub const fn new(newest: HashMap<Arc<str>, Micros>, lake_at: i64) -> Self {
        Self { newest, lake_at, page: None }
    }

    /// The committed rows at the beginning of a range of offsets, and the offset up to which they
    /// go: one page may end before the range does.
    pub async fn rows(
        &mut self,
        context: &Context,
        range: Range<i64>,
    ) -> Result<(RecordBatch, i64), Fatal> {
        let page = match self.page.take() {
            Some(page) if page.offsets.contains(&range.start) => page,
            _ => {
                let (partition, from) = (context.partition, range.start);
                let until = (from + PAGE).min(self.lake_at);
                let rows = context.ask_lake(|lake| async move {
                    lake.stored_readings(partition, from, until).await
                });
                Page { rows: rows.await?, offsets: from..until }
            }
        };
        let offsets = page.rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>());
        let offsets = offsets.ok_or_else(|| Fatal::Broken("rows without offsets".to_owned()))?;
        let until = range.end.min(page.offsets.end);
        let begin = offsets.values().partition_point(|o| *o < range.start);
        let end = offsets.values().partition_point(|o| *o < until);
        let slice = page.rows.slice(begin, end - begin);
        self.page = Some(page);
        Ok((slice, until))
    }
}
