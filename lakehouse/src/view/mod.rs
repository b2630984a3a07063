//! What queries see: tables and tail as one, and the engine that they run on.

pub(crate) mod dead_letters;
pub(crate) mod functions;
pub(crate) mod meters;
pub(crate) mod scoped;
pub(crate) mod session;
pub(crate) mod stored;
pub(crate) mod time_travel;
pub(crate) mod union;
