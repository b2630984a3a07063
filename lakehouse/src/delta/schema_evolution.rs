//! Schemas only grow: a table that an earlier version wrote gets the columns it lacks, and no file is
//! written anew for that.

use acuvim_schemas::tables::Table;
use arrow::datatypes::{Field, Schema};
use deltalake::{
    DeltaTable,
    kernel::{
        StructType, engine::arrow_conversion::TryIntoKernel as _, transaction::CommitProperties,
    },
};

use crate::{Error, ErrorKind, Snapshot};

/// Adds the columns that this version has and the table lacks. Its rows have nothing there.
pub(crate) async fn grow(delta: DeltaTable, table: Table) -> Result<DeltaTable, Error> {
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
    let grown = delta
        .clone()
        .add_columns()
        .with_fields(columns.fields().cloned().collect::<Vec<_>>())
        // Another process of this version may be adding them at this moment.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await;
    match grown {
        Ok(grown) => {
            tracing::info!(table = table.name(), columns = ?names, "the table has grown");
            Ok(grown)
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
    let lacks = |field: &&std::sync::Arc<Field>| stored.field_with_name(field.name()).is_err();
    Ok(table.schema().fields().iter().filter(lacks).map(|f| f.as_ref().clone()).collect())
}

/// Whether a later version of this program has added columns that this one does not know: what it
/// writes anew would lose them.
pub(crate) fn is_of_later_version(table: Table, snapshot: &Snapshot) -> bool {
    let ours = table.schema();
    let stored = snapshot.state.snapshot().arrow_schema();
    stored.fields().iter().any(|field| ours.field_with_name(field.name()).is_err())
}
