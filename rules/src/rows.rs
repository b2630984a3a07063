//! The columns of a batch of readings that every evaluation needs.

use acuvim_model::event::Mark;
use acuvim_wire::{Identity, Micros};
use arrow::{
    array::{AsArray as _, RecordBatch, StringArray},
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};

/// The columns that identify and date readings.
pub(crate) struct Rows<'a> {
    pub(crate) devices: &'a StringArray,
    pub(crate) ts: &'a [Micros],
    pub(crate) received: &'a [Micros],
    epoch: &'a [i32],
    partition: &'a [i32],
    pub(crate) offset: &'a [i64],
    item: &'a [i32],
}

impl<'a> Rows<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| ArrowError::SchemaError(format!("rows have no {name}")))
        };
        let times = |name: &str| -> Result<&'a [Micros], ArrowError> {
            Ok(column(name)?.as_primitive::<TimestampMicrosecondType>().values())
        };
        let ints = |name: &str| -> Result<&'a [i32], ArrowError> {
            Ok(column(name)?.as_primitive::<Int32Type>().values())
        };
        Ok(Self {
            devices: column("device_id")?.as_string::<i32>(),
            ts: times("ts")?,
            received: times("received_at")?,
            epoch: ints("epoch")?,
            partition: ints("partition")?,
            offset: column("offset")?.as_primitive::<Int64Type>().values(),
            item: ints("item")?,
        })
    }

    pub(crate) fn mark(&self, row: usize) -> Mark {
        let int = |column: &[i32]| column.get(row).copied().unwrap_or(0);
        let long = |column: &[i64]| column.get(row).copied().unwrap_or(0);
        let at = Identity {
            epoch: int(self.epoch),
            partition: int(self.partition),
            offset: long(self.offset),
            item: int(self.item),
        };
        Mark { ts: long(self.ts), at }
    }
}
