//! Writes rows as sorted Parquet files, with encodings chosen for meter readings.

use std::{collections::HashMap, num::NonZeroU64};

use acuvim_tables::{DATE, Table};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::interleave_record_batch,
    datatypes::{DataType, Date32Type},
};
use deltalake::{
    datafile::writer::{DeltaWriter, WriterConfig},
    kernel::Add,
    operations::get_num_idx_cols_and_stats_columns,
    parquet::{
        basic::{Compression, Encoding, ZstdLevel},
        file::properties::{EnabledStatistics, WriterProperties},
        schema::types::ColumnPath,
    },
};

use super::table::LakeTable;
use crate::{
    batch::{column, times},
    error::{Error, ErrorKind},
};

/// Rows per row group: few enough to skip well, enough to compress well.
const ROW_GROUP: usize = 131_072;

/// Rows given to the Parquet writer at a time.
const CHUNK: usize = 8192;

/// The size in bytes at which the writer begins another file.
pub(crate) const TARGET_BYTES: u64 = 256 << 20;

/// A writer of data files. Batches must have the table's schema, `date` included.
pub(crate) fn delta_writer(table: &LakeTable) -> Result<DeltaWriter, Error> {
    let state = &table.current().state;
    let (indexed, stats) =
        get_num_idx_cols_and_stats_columns(Some(state.table_config()), HashMap::new());
    let config = WriterConfig::new(
        table.kind.schema(),
        vec![DATE.to_owned()],
        Some(properties(table.kind)?),
        NonZeroU64::new(TARGET_BYTES),
        Some(CHUNK),
        indexed,
        stats,
    );
    Ok(DeltaWriter::new(table.log_store.object_store(None), config))
}

/// Writes batches as files that are sorted by day and by the table's sort columns.
pub(crate) async fn write_sorted(
    table: &LakeTable,
    batches: &[RecordBatch],
) -> Result<Vec<Add>, Error> {
    let order = sorted_order(table.kind, batches)?;
    let sources: Vec<&RecordBatch> = batches.iter().collect();
    // A writer per call: it holds a row group per day in memory, and a flush ends with all of them
    // closed.
    let mut writer = delta_writer(table)?;
    // In portions, because `interleave` copies the rows.
    for chunk in order.chunks(CHUNK) {
        let rows = interleave_record_batch(&sources, chunk)?;
        // If this fails, files may be left that no commit names. Cleaning deletes them.
        writer.write(&rows).await?;
    }
    Ok(writer.close().await?)
}

/// The positions (batch, row) of all rows, in the order of the file.
fn sorted_order(table: Table, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>, Error> {
    let [by, time] = table.sort_columns();
    let mut keys = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (b, batch) in batches.iter().enumerate() {
        let dates = column(batch, DATE)?.as_primitive::<Date32Type>();
        let names = column(batch, by)?.as_string::<i32>();
        for (row, ts) in times(batch, time)?.iter().enumerate() {
            let name = names.is_valid(row).then(|| names.value(row));
            keys.push((dates.value(row), name, *ts, b, row));
        }
    }
    // The position is part of the key, so rows of the same time keep the order in which they came.
    keys.sort_unstable();
    Ok(keys.into_iter().map(|(.., batch, row)| (batch, row)).collect())
}

/// Numbers are delta-encoded, since a meter's values change little from one row to the next, text uses
/// dictionaries, and both are compressed with zstd. Every column has statistics and a page index.
fn properties(table: Table) -> Result<WriterProperties, Error> {
    let zstd = ZstdLevel::try_new(3)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("zstd: {e}")).caused_by(e))?;
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_statistics_enabled(EnabledStatistics::Page);
    for field in table.schema().fields() {
        let number = matches!(
            field.data_type(),
            DataType::Decimal128(..) | DataType::Timestamp(..) | DataType::Int32 | DataType::Int64
        );
        if number {
            let path = ColumnPath::from(field.name().as_str());
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests;
