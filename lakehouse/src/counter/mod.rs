//! How the readings of a counter add up to consumption. Pure.
//!
//! A reading is judged by its neighbours. A single fall or jump that the next reading contradicts is
//! *suspect*: it is stored as it came, and contributes nothing. A fall that the next reading confirms is
//! a reset, whose consumption is unknown and counts as zero.

mod terms;
mod track;

pub use terms::{Counter, MeterTerms, Reading};
pub use track::{CountOutcome, Doubt, TakenBack, Track};

#[cfg(test)]
mod tests;
