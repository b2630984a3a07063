//! The log's tests: one conformance suite for every implementation, and what is each one's own:
//! crashes, torn ends, retention; topics, brokers that go away, shares.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod conformance;
mod crash;
mod embedded;
mod kafka;
#[path = "../../../compose/services/services.rs"]
mod services;
