//! What counters have counted.

mod track;

pub use track::{Counter, Doubt, MeterTerms, Reading, TakenBack, Told, Track};
