//! End-to-end tests: the built binary on free ports, used the way devices and users do.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod bad_messages;
mod broker;
mod cli;
mod counters;
mod crates;
mod docs;
mod firmware;
mod fleet;
mod freshness;
mod harness;
mod http;
mod import;
mod kill;
mod live;
mod modules;
mod notifications;
mod power_cut;
mod readers;
mod repartition;
mod rules;
mod scaled;
#[path = "../../services/services.rs"]
mod services;
mod soak;
mod stack;
mod telemetry;
mod walk;
