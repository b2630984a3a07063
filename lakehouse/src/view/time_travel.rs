//! Views of an older version of `telemetry`: the same question gets the same answer again.

use std::sync::Arc;

use acuvim_schemas::tables::Table;
use deltalake::DeltaTable;

use crate::{
    Error, ErrorKind, Lake, Snapshot, UnionTable, View, error::store_is_away, table::LakeTable,
};

impl Lake {
    /// `telemetry` as it was at a version, without a tail; the only table of the view. Its files are
    /// kept for as long as [`Lake::clean`] is told to.
    ///
    /// # Errors
    /// [`ErrorKind::NoVersion`] when there is no such version, or not any more.
    pub async fn view_at(&self, version: i64) -> Result<View, Error> {
        let table = self.table(Table::Telemetry)?;
        let mut now = table.current();
        if version > now.version() {
            // Another process may have told of it.
            now = table.catch_up().await?;
        }
        let snapshot = if version == now.version() { now } else { table.at(version).await? };
        let covered = snapshot.covered();
        let reach = |partition| covered.get(&partition).copied().unwrap_or(0);
        Ok(View {
            version,
            watermark: (0..self.options.partitions).map(reach).collect(),
            tables: vec![Arc::new(UnionTable::new(Arc::clone(table), snapshot, Vec::new()))],
        })
    }
}

impl LakeTable {
    async fn at(&self, version: i64) -> Result<Arc<Snapshot>, Error> {
        let current = self.current();
        let none = || {
            let text = format!(
                "{} has no version {version}, or not any more: the newest is {}",
                self.table.name(),
                current.version()
            );
            Error::new(ErrorKind::NoVersion, text)
        };
        let version = u64::try_from(version).ok().filter(|v| *v <= current.state.version());
        let mut delta = DeltaTable::new(Arc::clone(&self.log_store));
        let loaded = delta.load_version(version.ok_or_else(none)?).await;
        // A store that is away says nothing of versions.
        loaded.map_err(|error| if store_is_away(&error) { error.into() } else { none() })?;
        let state = delta.state.ok_or_else(none)?;
        let covered = self.covered_of(&state).await?;
        Ok(Arc::new(Snapshot::new(self.table, state, covered, Some(&current))?))
    }
}
