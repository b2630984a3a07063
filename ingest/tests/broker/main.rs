//! The built-in broker with a real log, as devices meet it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod commands;
mod credentials;
mod messages;
mod support;
mod wills;
