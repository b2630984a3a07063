//! The fleet: simulated devices that speak to any broker as real ones do. `acuvim simulate`, the
//! demo, the end-to-end tests and the benchmarks all use it.

pub mod fleet;
pub mod mqtt;
