//! Rows into sorted Parquet files of a table, encoded for how meters behave.

use std::num::NonZeroU64;

use acuvim_schemas::tables::{DATE, Table};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::interleave_record_batch,
    datatypes::{DataType, Date32Type, TimestampMicrosecondType},
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
use std::collections::HashMap;

use crate::{Error, ErrorKind, table::LakeTable};

/// Rows in a row group: small enough to sort and to skip, large enough to compress.
const ROW_GROUP: usize = 131_072;

/// Rows handed to the Parquet writer at a time.
const CHUNK: usize = 8192;

/// A file is cut at about as many bytes.
pub(crate) const TARGET_BYTES: u64 = 256 << 20;

/// A writer of data files of a table; batches have the table's schema, `date` included.
pub(crate) fn delta_writer(table: &LakeTable) -> Result<DeltaWriter, Error> {
    let state = &table.current().state;
    let (indexed, stats) =
        get_num_idx_cols_and_stats_columns(Some(state.table_config()), HashMap::new());
    let config = WriterConfig::new(
        table.table.schema(),
        vec![DATE.to_owned()],
        Some(properties(table.table)?),
        NonZeroU64::new(TARGET_BYTES),
        Some(CHUNK),
        indexed,
        stats,
    );
    Ok(DeltaWriter::new(table.log_store.object_store(None), config))
}

/// Writes batches as files sorted by day and by the table's sort columns.
pub(crate) async fn write_sorted(
    table: &LakeTable,
    batches: &[RecordBatch],
) -> Result<Vec<Add>, Error> {
    let order = sorted_order(table.table, batches)?;
    let sources: Vec<&RecordBatch> = batches.iter().collect();
    let mut writer = delta_writer(table)?;
    for chunk in order.chunks(CHUNK) {
        let rows = interleave_record_batch(&sources, chunk)?;
        // What was written when this fails is in no commit, and is let go of with the writer.
        writer.write(&rows).await?;
    }
    Ok(writer.close().await?)
}

/// Where each row is, as (batch, row), in the order of the file.
fn sorted_order(table: Table, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>, Error> {
    let [by, time] = table.sort_columns();
    let mut keys = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (b, batch) in batches.iter().enumerate() {
        let dates = column(batch, DATE)?.as_primitive::<Date32Type>();
        let names = column(batch, by)?.as_string::<i32>();
        let times = column(batch, time)?.as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let name = names.is_valid(row).then(|| names.value(row));
            keys.push((dates.value(row), name, times.value(row), b, row));
        }
    }
    keys.sort_unstable();
    Ok(keys.into_iter().map(|(.., batch, row)| (batch, row)).collect())
}

pub(crate) fn column<'a>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a arrow::array::ArrayRef, Error> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("a batch has no column `{name}`")))
}

/// zstd over delta-packed integers for everything that is a number (a meter's values move little
/// from one row of a device to the next), dictionaries for text, statistics and page index on all.
fn properties(table: Table) -> Result<WriterProperties, Error> {
    let zstd =
        ZstdLevel::try_new(3).map_err(|e| Error::new(ErrorKind::Internal, format!("zstd: {e}")))?;
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
