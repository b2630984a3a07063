//! The small mutable state: users, keys, devices, offsets, leases and the facts fixed at the first
//! start. SQLite by default, PostgreSQL to scale out; every statement is one text for both.

mod db;
mod devices;
mod error;
mod keys;
mod leases;
mod log_facts;
mod open;
mod secrets;
mod sessions;
mod stream;
mod users;
mod value;

pub use db::Control;
pub use devices::{DeviceFilter, DeviceSecrets};
pub use error::{Error, ErrorKind};
pub use leases::Lease;
pub use log_facts::LogFacts;
pub use secrets::{hash_secret, new_secret};
pub use sessions::Rotation;
pub use stream::{Applied, Changes, OffsetMove, Registered};
pub use users::User;
