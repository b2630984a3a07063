//! What rollups are computed from and written to.

use std::sync::Arc;

use acuvim_tables::Table;

use crate::{
    delta::{Snapshot, schema_evolution::is_of_later_version, table::LakeTable},
    error::Error,
    memory::Newest,
    view::Reader,
};

/// Access to the tables, and to the newest reading of each device.
#[derive(Debug)]
pub(super) struct RollupStore {
    pub reader: Reader,
    pub newest: Newest,
}

impl RollupStore {
    pub fn table(&self, table: Table) -> Result<&Arc<LakeTable>, Error> {
        self.reader.tables.get(table)
    }

    pub fn snapshot(&self, table: Table) -> Result<Arc<Snapshot>, Error> {
        self.reader.tables.snapshot(table)
    }

    pub fn epoch(&self) -> i32 {
        self.reader.tables.options.epoch
    }

    /// Whether a later version of this program has added columns to a rollup table. This version must
    /// not rewrite its files.
    pub fn is_of_later_version(&self) -> Result<bool, Error> {
        for table in Table::ROLLUPS {
            if is_of_later_version(table, &*self.snapshot(table)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
