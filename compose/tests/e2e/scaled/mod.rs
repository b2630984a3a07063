//! The same promises on Kafka, Mosquitto, PostgreSQL and S3, with roles in processes of their own.

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
