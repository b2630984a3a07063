//! Schema evolution: tables only gain columns, and no file is rewritten for that.

use std::sync::Arc;

use acuvim_tables::Table;
use arrow::datatypes::{Field, Schema};
use deltalake::{
    DeltaTable,
    kernel::{
        StructType, engine::arrow_conversion::TryIntoKernel as _, transaction::CommitProperties,
    },
};

use super::snapshot::Snapshot;
use crate::error::{Error, ErrorKind};

/// Adds the columns that this version writes and the table lacks. Existing rows are null there.
pub(super) async fn add_missing_columns(
    delta: DeltaTable,
    table: Table,
) -> Result<DeltaTable, Error> {
    let missing = missing(&delta, table)?;
    if missing.is_empty() {
        return Ok(delta);
    }
    let names: Vec<String> = missing.iter().map(|f| f.name().clone()).collect();
    if let Some(field) = missing.iter().find(|field| !field.is_nullable()) {
        return Err(Error::new(
            ErrorKind::Setup,
            format!("the table {} has no column {} (lake.url)", table.name(), field.name()),
        ));
    }
    let columns: StructType = (&Schema::new(missing)).try_into_kernel()?;
    let added = delta
        .clone()
        .add_columns()
        .with_fields(columns.fields().cloned().collect::<Vec<_>>())
        // Another process may be adding the same columns. The loser reloads the table below instead of
        // adding them again.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await;
    match added {
        Ok(added) => {
            tracing::info!(table = table.name(), columns = ?names, "columns were added to the table");
            Ok(added)
        }
        Err(error) => {
            let mut again = delta;
            again.load().await?;
            match self::missing(&again, table)?.is_empty() {
                true => Ok(again),
                false => Err(error.into()),
            }
        }
    }
}

fn missing(delta: &DeltaTable, table: Table) -> Result<Vec<Field>, Error> {
    let stored = delta.snapshot()?.snapshot().arrow_schema();
    let lacks = |field: &&Arc<Field>| stored.field_with_name(field.name()).is_err();
    Ok(table.schema().fields().iter().filter(lacks).map(|f| f.as_ref().clone()).collect())
}

/// Whether a later version of this program has added columns that this one does not know. This version
/// must not rewrite files of such a table: the values in those columns would be lost.
pub(crate) fn is_of_later_version(table: Table, snapshot: &Snapshot) -> bool {
    let ours = table.schema();
    let stored = snapshot.state.snapshot().arrow_schema();
    stored.fields().iter().any(|field| ours.field_with_name(field.name()).is_err())
}
