//! End to end: the built binary on free ports, spoken to as devices and users speak to it.

mod bad_messages;
mod broker;
mod cli;
mod crates;
mod docs;
mod freshness;
mod harness;
mod http;
mod kill;
mod readers;
mod walk;
