//! SQL behaviour in `.slt` files, and a snapshot of the API's document.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod openapi;
mod script;
mod slt;
