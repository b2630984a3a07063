//! Rows as text and bytes: values and cells of columns, JSON objects and arrays, CSV, NDJSON, Arrow and
//! Parquet, and readings as the API answers them.

mod cells;
mod digits;
mod encoder;
mod reading;
mod values;

pub use cells::{Cells, object};
pub use encoder::{Encoder, Lines};
pub use reading::{ReadingParts, ReadingRows, reading_names};
pub use values::{micros, row_objects, value_rows, values};

#[cfg(test)]
mod tests;
