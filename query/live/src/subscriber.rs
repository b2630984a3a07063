//! The user or key that a connection belongs to.

use acuvim_model::Scope;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A user or key, with what live connections need of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The user's or key's id.
    pub id: Uuid,
    /// The devices that it sees; none: all.
    pub scope: Option<Scope>,
    /// A person's login; a key has none.
    pub login: Option<Login>,
    /// When its token or key ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The login that a person's token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Login {
    /// The login's id, which its refreshed tokens keep.
    pub family: Uuid,
    /// The session version that the token was made for; a change of password raises it.
    pub session_version: i64,
}
