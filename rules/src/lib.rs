//! Alert rules and health, as pure state machines over event time.
//!
//! Empty so far: the stream does not judge readings yet. The crate is here because its edges in the
//! crate graph are settled: it knows the formats, and nothing that does IO.
