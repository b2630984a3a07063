//! Decodes telemetry JSON to Arrow columns: messages, batches and JSON Lines. Each item is checked on
//! its own, so that a bad one does not affect the others.

mod decode;
mod item;
mod repeat;

pub use decode::{Checker, Decoded, Decoder, MOST_UNKNOWN, Source, Unknown};
pub use repeat::{RowRef, differing, named};
