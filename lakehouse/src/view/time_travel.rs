//! Time travel: views of an older version of `telemetry`, in which the same query has the same answer
//! again.

use std::sync::Arc;

use acuvim_tables::Table;

use super::{
    reader::Reader,
    union::{UnionTable, View},
};
use crate::error::Error;

impl Reader {
    /// `telemetry` at a version, without a tail. It is the only table of the view.
    pub async fn view_at(&self, version: i64) -> Result<View, Error> {
        let table = self.tables.get(Table::Telemetry)?;
        let mut newest = table.current();
        if version > newest.version() {
            // The caller may have the version from another process.
            newest = table.catch_up().await?;
        }
        // The newest version is in memory already. Loading it again would read the whole log.
        let snapshot = match version == newest.version() {
            true => newest,
            false => table.at(version).await?,
        };
        let covered = snapshot.covered();
        let reach = |partition| covered.get(&partition).copied().unwrap_or(0);
        Ok(View {
            version,
            watermark: (0..self.tables.options.partitions).map(reach).collect(),
            tables: vec![Arc::new(UnionTable::new(Arc::clone(table), snapshot, Vec::new()))],
        })
    }
}

#[cfg(test)]
mod tests;
