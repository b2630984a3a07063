//! What a user or an API key may do.

use serde::{Deserialize, Serialize};

/// What a user or key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    // In the order of power: rights are compared with `>=`.
    /// May read.
    Viewer,
    /// May also send commands, configure devices, acknowledge alerts and edit groups.
    Operator,
    /// May do everything, such as manage users, keys and firmware.
    Admin,
}

impl Role {
    /// The name in tokens, tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "Viewer",
            Self::Operator => "Operator",
            Self::Admin => "Admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|r| r.as_str() == name)
    }
}

#[cfg(test)]
mod tests;
