//! The same guarantees on Kafka, Mosquitto, PostgreSQL and S3, with each role in its own process.

mod bridge;
mod commands;
mod freshness;
mod kill;
mod load;
mod lost;
mod outages;
mod proxy;
mod rules;
mod store;
mod takeover;
mod walk;
mod wrong;
