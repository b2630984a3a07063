//! Who asks: tokens, keys, passwords.

mod caller;
mod jwt;
mod password;

pub(crate) use caller::Caller;
pub use jwt::{Jwt, Session};
pub use password::hash_password;
pub(crate) use password::{check_new_password, verify_password};
