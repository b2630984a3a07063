//! Writes sorted rows to files that end between two devices, so that their device ranges do not overlap.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use deltalake::{datafile::writer::DeltaWriter, kernel::Add};
use object_store::{ObjectStoreExt as _, path::Path};

use crate::{
    batch::column,
    delta::{table::LakeTable, writer::delta_writer},
    error::Error,
};

/// Begins another file at the first change of device after a number of rows.
pub(super) struct SplitWriter<'a> {
    table: &'a LakeTable,
    writer: DeltaWriter,
    limit: usize,
    /// The number of rows in the open file.
    rows: usize,
    /// The device of the last row.
    last: Option<String>,
    adds: Vec<Add>,
}

impl<'a> SplitWriter<'a> {
    pub fn new(table: &'a LakeTable, limit: usize) -> Result<Self, Error> {
        let writer = delta_writer(table)?;
        Ok(Self { table, writer, limit, rows: 0, last: None, adds: Vec::new() })
    }

    /// Writes rows that follow the ones before in the table's order.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut rest = batch.clone();
        while let Some(at) = self.boundary(&rest)? {
            self.append(&rest.slice(0, at)).await?;
            let full = std::mem::replace(&mut self.writer, delta_writer(self.table)?);
            self.adds.extend(full.close().await?);
            self.rows = 0;
            rest = rest.slice(at, rest.num_rows() - at);
        }
        self.append(&rest).await
    }

    pub async fn close(mut self) -> Result<Vec<Add>, Error> {
        self.adds.extend(self.writer.close().await?);
        Ok(self.adds)
    }

    /// Deletes the files that are complete. No commit names them, and cleaning would come much later.
    pub async fn abandon(self) {
        let store = self.table.log_store.object_store(None);
        for add in self.adds {
            if let Err(error) = store.delete(&Path::from(add.path.as_str())).await {
                tracing::debug!(%error, path = add.path, "left for the next cleaning");
            }
        }
    }

    async fn append(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.writer.write(rows).await?;
        self.rows += rows.num_rows();
        self.last = device(self.table, rows, rows.num_rows() - 1)?;
        Ok(())
    }

    /// The first row with another device than the row before it, once the open file is full.
    fn boundary(&self, rows: &RecordBatch) -> Result<Option<usize>, Error> {
        let full = self.limit.saturating_sub(self.rows);
        for row in full..rows.num_rows() {
            let before = match row.checked_sub(1) {
                Some(before) => device(self.table, rows, before)?,
                // The first row of a file can't end it.
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
    let [by, _] = table.kind.sort_columns();
    let names = column(rows, by)?.as_string::<i32>();
    Ok(names.is_valid(row).then(|| names.value(row).to_owned()))
}

#[cfg(test)]
mod tests;
