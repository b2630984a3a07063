//! The rollout logic: single cases, and simulated fleets with random behaviour.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod rollouts;
