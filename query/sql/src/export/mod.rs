//! Exports: any number of rows as a stream of bytes in bounded memory, which ends complete or visibly
//! broken off.

mod stream;

pub use stream::{Export, ExportPart, ExportStream, export};

#[cfg(test)]
mod tests;
