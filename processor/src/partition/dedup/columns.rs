//! Columns of decoded rows.

use acuvim_wire::Micros;
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use crate::fatal::Fatal;

/// The offset of each row.
pub(super) fn offsets(rows: &RecordBatch) -> &[i64] {
    let column = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>());
    column.map_or(&[], |column| column.values())
}

/// The device and the time of each row.
pub(super) fn devices_and_times(rows: &RecordBatch) -> Result<Vec<(&str, Micros)>, Fatal> {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return Err(Fatal::Broken("decoded rows have no device_id or ts".to_owned()));
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    Ok(devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()).collect())
}
