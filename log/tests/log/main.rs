//! The log's tests: one conformance suite for every implementation, and what is the embedded
//! log's own: crashes, torn ends, retention.

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
