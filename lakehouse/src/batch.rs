//! Access to the columns of record batches, and literals of their types.

use acuvim_wire::time::Micros;
use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::{common::ScalarValue, logical_expr::Expr, prelude::lit};

use crate::error::{Error, ErrorKind};

/// A column of a batch by its name. A missing one means that rows and schema do not match.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("a batch has no column `{name}`")))
}

/// The values of a column of times.
pub(crate) fn times<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [Micros], Error> {
    Ok(column(batch, name)?.as_primitive::<TimestampMicrosecondType>().values())
}

/// The pairs of `device_id` and `ts` of all rows.
pub(crate) fn device_times(rows: &[RecordBatch]) -> Result<Vec<(&str, Micros)>, Error> {
    let mut pairs = Vec::with_capacity(rows.iter().map(RecordBatch::num_rows).sum());
    for batch in rows {
        let devices = column(batch, "device_id")?.as_string::<i32>();
        // Only tables whose `device_id` is never null are read here, so flattening does not shift
        // rows.
        pairs.extend(devices.iter().flatten().zip(times(batch, "ts")?.iter().copied()));
    }
    Ok(pairs)
}

/// A time as a literal for the query engine.
#[must_use]
pub fn timestamp(micros: Micros) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

#[cfg(test)]
mod tests;
