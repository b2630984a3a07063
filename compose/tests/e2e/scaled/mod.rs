//! The same promises on Kafka, Mosquitto, PostgreSQL and S3, with roles in processes of their own.

mod walk;
