//! The same guarantees on Kafka, Mosquitto, PostgreSQL and S3, with each role in its own process.

mod bridge;
mod commands;
mod door;
mod freshness;
mod judgement;
mod kill;
mod load;
mod lost;
mod outages;
mod store;
mod takeover;
mod walk;
mod wrong;
