//! The control writer stage: gathers the changes of control and writes them in one transaction with
//! control's offset, in a task of its own. Readings therefore become visible however slow control
//! is, and also while it is away.

mod batch;
mod cursor;
mod task;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use cursor::ControlCursor;
pub(super) use task::ControlTarget;
pub(super) use writer::{ControlWriter, WritePolicy};
