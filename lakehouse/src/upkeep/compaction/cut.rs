//! Merged rows into files that end between two devices, so that their ranges do not overlap.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use deltalake::{datafile::writer::DeltaWriter, kernel::Add};
use object_store::{ObjectStoreExt as _, path::Path};

use crate::{
    Error,
    table::LakeTable,
    writer::{column, delta_writer},
};

/// Begins another file at the first change of device behind so many rows.
pub(super) struct CutWriter<'a> {
    table: &'a LakeTable,
    writer: DeltaWriter,
    limit: usize,
    /// Rows of the file that is open.
    rows: usize,
    /// The device of the last row.
    last: Option<String>,
    adds: Vec<Add>,
}

impl<'a> CutWriter<'a> {
    pub fn new(table: &'a LakeTable, limit: usize) -> Result<Self, Error> {
        let writer = delta_writer(table)?;
        Ok(Self { table, writer, limit, rows: 0, last: None, adds: Vec::new() })
    }

    /// Takes rows that follow those before in the table's order.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut rest = batch.clone();
        while let Some(at) = self.boundary(&rest)? {
            self.take(&rest.slice(0, at)).await?;
            let full = std::mem::replace(&mut self.writer, delta_writer(self.table)?);
            self.adds.extend(full.close().await?);
            self.rows = 0;
            rest = rest.slice(at, rest.num_rows() - at);
        }
        self.take(&rest).await
    }

    pub async fn close(mut self) -> Result<Vec<Add>, Error> {
        self.adds.extend(self.writer.close().await?);
        Ok(self.adds)
    }

    /// Gives up, and removes what was finished: it is in no commit, and vacuum comes much later.
    pub async fn abandon(self) {
        let store = self.table.log_store.object_store(None);
        for add in self.adds {
            if let Err(error) = store.delete(&Path::from(add.path.as_str())).await {
                tracing::debug!(%error, path = add.path, "left for the next cleaning");
            }
        }
    }

    async fn take(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.writer.write(rows).await?;
        self.rows += rows.num_rows();
        self.last = device(self.table, rows, rows.num_rows() - 1)?;
        Ok(())
    }

    /// The first row that is another device's than the one before it, once the open file is full.
    fn boundary(&self, rows: &RecordBatch) -> Result<Option<usize>, Error> {
        let full = self.limit.saturating_sub(self.rows);
        for row in full..rows.num_rows() {
            let before = match row.checked_sub(1) {
                Some(before) => device(self.table, rows, before)?,
                None if self.rows == 0 => continue,
                None => self.last.clone(),
            };
            if device(self.table, rows, row)? != before {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

fn device(table: &LakeTable, rows: &RecordBatch, row: usize) -> Result<Option<String>, Error> {
    let [by, _] = table.table.sort_columns();
    let names = column(rows, by)?.as_string::<i32>();
    Ok(names.is_valid(row).then(|| names.value(row).to_owned()))
}
