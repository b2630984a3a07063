//! Who asks: tokens, keys, passwords.

mod caller;
mod jwt;
mod password;
mod throttle;

pub(crate) use caller::{Caller, info, now, request_id};
pub use jwt::{Jwt, Session};
pub use password::hash_password;
pub(crate) use password::{check_new_password, hashed, verify_password};
pub(crate) use throttle::Throttle;
