//! Exports: rows as a stream of bytes in bounded memory, which ends whole or visibly broken.

mod digits;
mod encode;
mod slots;
mod stream;
mod text;

pub(crate) use encode::{Encoder, Lines};
pub(crate) use slots::ExportSlots;
pub(crate) use stream::{Exported, TRAILERS, export};
pub(crate) use text::{Cells, object};
