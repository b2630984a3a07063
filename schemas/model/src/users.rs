//! Users, keys, what they may see, and the audit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::role::Role;

/// The devices that a user or key may see: those listed, and those in the groups listed. It holds for
/// REST, SQL, live events and exports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// The ids of devices.
    pub device_ids: Vec<String>,
    /// The ids of groups: all of their devices.
    pub group_ids: Vec<Uuid>,
}

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserInfo {
    /// The id of the user or key.
    pub id: Uuid,
    /// The name of the user or key.
    pub username: String,
    /// What the user or key may do.
    pub role: Role,
}

/// Who asks, and what they see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Me {
    /// The user or key.
    #[serde(flatten)]
    pub user: UserInfo,
    /// The devices that the caller may see; null for all.
    pub scope: Option<Scope>,
}

/// A person who can log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserAccount {
    /// The id of the user.
    pub id: Uuid,
    /// The name to log in with, lower case.
    pub username: String,
    /// What the user may do.
    pub role: Role,
    /// The devices that the user may see; null for all.
    pub scope: Option<Scope>,
    /// Whether the user can log in.
    pub enabled: bool,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
}

/// `POST /api/auth/register`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to log in with: 1 to 64 of a-z 0-9 . _ - @
    #[cfg_attr(feature = "openapi", schema(example = "night.shift"))]
    pub username: String,
    /// The password, at least 12 characters.
    #[cfg_attr(feature = "openapi", schema(example = "correct horse battery staple"))]
    pub password: String,
    /// What the user may do.
    pub role: Role,
    /// The devices that the user may see; all if absent or null.
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// `PUT /api/users/{id}`. An absent field stays as it is, but for the scope: without one the user may see
/// all devices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserEdit {
    /// What the user may do.
    pub role: Role,
    /// The devices that the user may see; all if absent or null.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Whether the user can log in; false ends open sessions.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// A new password, at least 12 characters; it ends open sessions.
    #[serde(default)]
    pub password: Option<String>,
}

/// `POST /api/keys`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What the key is for, 1 to 100 characters.
    #[cfg_attr(feature = "openapi", schema(example = "grafana"))]
    pub name: String,
    /// What the key may do.
    pub role: Role,
    /// The devices that the key may see; all if absent or null.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// When the key expires; never if absent or null.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// The id of the key.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What the key may do.
    pub role: Role,
    /// The devices that the key may see; null for all.
    pub scope: Option<Scope>,
    /// When the key expires; null for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A new API key: the only time its secret is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// The key without its secret.
    #[serde(flatten)]
    pub key: Key,
    /// The key itself, for `Authorization: Bearer` or `X-Api-Key`. It is stored as a hash alone.
    pub secret: String,
}

/// A change of the system that somebody made. Secrets in it are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// The id of the entry; a later entry has a greater id.
    pub id: Uuid,
    /// When the change was made.
    pub at: DateTime<Utc>,
    /// The id of the user or key; null for the system itself.
    pub actor_id: Option<Uuid>,
    /// The name of the user or key.
    #[cfg_attr(feature = "openapi", schema(example = "admin"))]
    pub actor: String,
    /// The address that the request came from; null for the system itself.
    #[cfg_attr(feature = "openapi", schema(example = "192.0.2.7"))]
    pub address: Option<String>,
    /// The id of the request, as in its answer and the log.
    pub request: Option<String>,
    /// What was done, as noun and verb.
    #[cfg_attr(feature = "openapi", schema(example = "device.update"))]
    pub action: String,
    /// The id or name of what was changed.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub object: String,
    /// What was changed, with fields that depend on the action.
    pub detail: Value,
}

#[cfg(test)]
mod tests;
