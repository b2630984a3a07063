//! All tables of a lake.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_tables::Table;

use super::{
    create::table_url,
    snapshot::Snapshot,
    store,
    table::{LakeTable, SourceLog},
};
use crate::{
    error::{Error, ErrorKind},
    options::LakeOptions,
};

/// The tables of a lake, each opened once per process.
#[derive(Debug)]
pub(crate) struct Tables {
    tables: BTreeMap<&'static str, Arc<LakeTable>>,
    pub options: LakeOptions,
}

impl Tables {
    /// Opens every table, and creates those that do not exist.
    pub async fn open(options: LakeOptions) -> Result<Self, Error> {
        store::register();
        if store::is_s3(&options.url) {
            let first = table_url(&options.url, Table::Telemetry)?;
            store::check_conditional_puts(&first).await?;
        }
        let log = SourceLog { epoch: options.epoch, partitions: options.partitions };
        let mut tables = BTreeMap::new();
        for table in Table::ALL {
            let url = table_url(&options.url, table)?;
            // Before the offsets in the commits are read, and trusted.
            store::sync_commits(&url).await?;
            tables.insert(table.name(), Arc::new(LakeTable::open(url, table, log).await?));
        }
        Ok(Self { tables, options })
    }

    /// A table by its kind.
    pub fn get(&self, table: Table) -> Result<&Arc<LakeTable>, Error> {
        self.tables.get(table.name()).ok_or_else(no_table)
    }

    /// All tables, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LakeTable>> {
        self.tables.values()
    }

    /// The newest snapshot of a table that this process knows.
    pub fn snapshot(&self, table: Table) -> Result<Arc<Snapshot>, Error> {
        Ok(self.get(table)?.current())
    }

    /// Where a reader of the log continues: the first offset that a snapshot does not cover.
    pub fn next_offset(&self, snapshot: &Snapshot, partition: u32) -> i64 {
        match self.options.guards.skip_by_offset() {
            true => snapshot.covered().get(&partition).copied().unwrap_or(0),
            false => 0,
        }
    }

    /// Reads what other processes have committed to any table. Returns the snapshot of `telemetry`.
    pub async fn catch_up(&self) -> Result<Arc<Snapshot>, Error> {
        // A flush commits `telemetry` last, so the tables that are read after it cover no less.
        let telemetry = self.get(Table::Telemetry)?.catch_up().await?;
        for table in self.iter().filter(|t| t.kind != Table::Telemetry) {
            table.catch_up().await?;
        }
        Ok(telemetry)
    }
}

pub(crate) fn no_table() -> Error {
    Error::new(ErrorKind::Internal, "the lake has no such table")
}
