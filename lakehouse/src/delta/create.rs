//! Opening a Delta table, creating it if it does not exist, and checking its schema.

use acuvim_tables::{DATE, Table};
use acuvim_wire::reading::READINGS;
use deltalake::{
    DeltaTable, DeltaTableError, TableProperty,
    kernel::{
        StructType,
        engine::arrow_conversion::TryIntoKernel as _,
        transaction::{CommitProperties, TransactionError},
    },
    protocol::SaveMode,
    table::state::DeltaTableState,
};
use url::Url;

use crate::error::{Error, ErrorKind};

/// The URL of a table below the URL of the lake.
pub(crate) fn table_url(lake: &Url, table: Table) -> Result<Url, Error> {
    let mut url = lake.clone();
    url.path_segments_mut()
        .map_err(|()| Error::new(ErrorKind::Setup, format!("{lake} (lake.url) has no path")))?
        .pop_if_empty()
        .push(table.name());
    Ok(url)
}

/// Opens the table at a URL, or creates it there.
pub(super) async fn open_or_create(url: Url, table: Table) -> Result<DeltaTable, Error> {
    let local = url.scheme() == "file";
    let failed = |e: DeltaTableError| match Error::from(e) {
        // A local folder that can't be used stays unusable: waiting would not help.
        error if local => {
            let text = format!("{} (lake.url) can't be opened: {error}", table.name());
            Error::new(ErrorKind::Setup, text).caused_by(error)
        }
        error => error,
    };
    let url = deltalake::ensure_table_uri(url.as_str()).map_err(failed)?;
    let mut delta = DeltaTable::try_from_url(url).await.map_err(failed)?;
    if delta.version().is_some() {
        return Ok(delta);
    }
    match create(&delta, table).await {
        Ok(made) => Ok(made),
        // Another process has created it in the meantime.
        Err(DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }) => {
            delta.load().await?;
            Ok(delta)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn create(delta: &DeltaTable, table: Table) -> Result<DeltaTable, DeltaTableError> {
    let columns: StructType = table.schema().as_ref().try_into_kernel()?;
    delta
        .clone()
        .create()
        .with_table_name(table.name())
        .with_comment(table.description())
        .with_columns(columns.fields().cloned())
        .with_partition_columns([DATE])
        // Nothing happens if another process has created the table since it was looked for.
        .with_save_mode(SaveMode::Ignore)
        // Whoever opens the table reads the last checkpoint and the commits after it.
        .with_configuration_property(TableProperty::CheckpointInterval, Some("50"))
        // By default data files go after a day, so they decide how far back queries can go. A longer
        // `lake.keep_files_hours` than this gains nothing: without the commits no version can be read.
        .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 7 days"))
        .with_configuration_property(
            TableProperty::DataSkippingStatsColumns,
            Some(statistics_columns(table)),
        )
        // With retries delta-rs would commit the metadata a second time when two processes create the
        // table at once.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await
}

/// The columns whose minimum and maximum the Delta log states for each file. Files are pruned by them.
fn statistics_columns(table: Table) -> String {
    let schema = table.schema();
    let pruned_by = |name: &&str| {
        table.sort_columns().contains(name)
            || PRUNED_BY.contains(name)
            || READINGS.iter().take(READINGS_PRUNED_BY).any(|r| r.name == *name)
    };
    let names: Vec<&str> =
        schema.fields().iter().map(|f| f.name().as_str()).filter(pruned_by).collect();
    names.join(",")
}

const PRUNED_BY: [&str; 5] = ["received_at", "recorded_at", "epoch", "partition", "offset"];

/// The readings that queries for values out of bounds use: frequency, voltages, currents and powers.
/// They come first in [`READINGS`].
const READINGS_PRUNED_BY: usize = 18;

/// Checks that the table has every column that this version writes, with its type.
pub(super) fn check_schema(table: Table, state: &DeltaTableState) -> Result<(), Error> {
    let stored = state.snapshot().arrow_schema();
    for field in table.schema().fields() {
        let same =
            stored.field_with_name(field.name()).is_ok_and(|f| f.data_type() == field.data_type());
        if !same {
            return Err(Error::new(
                ErrorKind::Setup,
                format!("the table {} has no column {field} (lake.url)", table.name()),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
