//! The log's tests: one conformance suite for every implementation, and what is the embedded
//! log's own: crashes, torn ends, retention.

mod conformance;
mod crash;
mod embedded;
