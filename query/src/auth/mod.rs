//! Who asks: tokens, keys, passwords.

mod caller;
mod jwt;
mod password;
mod throttle;

pub(crate) use caller::{Caller, caller_of, info, now, request_id, token};
pub use jwt::{Jwt, Session};
pub(crate) use password::{check_new_password, hashed, verify_password};
pub use password::{hash_password, is_common_password, verify as is_password};
pub(crate) use throttle::Throttle;
