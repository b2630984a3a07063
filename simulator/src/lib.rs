//! Simulated devices that talk to any MQTT broker as real ones do: for `acuvim simulate`, the demo, the
//! tests and the benchmarks.

pub mod fleet;
pub mod mqtt;
#[cfg(test)]
mod testing;
