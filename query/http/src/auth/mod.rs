//! Who is calling: tokens, keys and passwords.

mod caller;
mod jwt;
mod password;
mod throttle;

pub(crate) use caller::{Authenticator, Caller, info, request_id, token};
pub use jwt::{Jwt, Session};
pub(crate) use password::{Passwords, check_new_password};
pub use password::{hash_password, is_common_password, verify as is_password};
pub(crate) use throttle::Throttle;
