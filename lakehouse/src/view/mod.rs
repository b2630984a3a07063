//! What queries see: the tables and the tail as one, older versions, the engine with its functions, and
//! the queries that the stream itself needs.

pub(crate) mod dead_letters;
mod functions;
mod meters;
mod reader;
mod scoped;
mod session;
pub(crate) mod stored;
mod time_travel;
mod union;

pub use dead_letters::{Letter, LetterFilter};
pub use functions::{Buckets, IRREGULAR, Interval};
pub use meters::{MeterChanges, Meters};
pub(crate) use reader::Reader;
pub use scoped::OfDevices;
pub use session::{Engine, EngineLimits};
pub use union::{UnionTable, View};
