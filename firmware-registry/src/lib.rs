//! Firmware images, their releases, and the logic of rollouts.
//!
//! Empty so far: the system does not serve firmware yet. The crate is here because its edges in the
//! crate graph are settled.
