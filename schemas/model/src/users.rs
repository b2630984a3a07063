//! Users, keys, what they may see, and the audit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::role::Role;

/// The devices that a user or key sees: those named, and those of the groups named. Everywhere the
/// same: REST, SQL, live events and exports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Ids of devices.
    pub device_ids: Vec<String>,
    /// Ids of groups.
    pub group_ids: Vec<Uuid>,
}

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserInfo {
    /// The user's or key's id.
    pub id: Uuid,
    /// The user's or key's name.
    pub username: String,
    /// What they may do.
    pub role: Role,
}

/// Who asks, and what they see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Me {
    /// Who.
    #[serde(flatten)]
    pub user: UserInfo,
    /// The devices they see; null: all.
    pub scope: Option<Scope>,
}

/// A person who can log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserAccount {
    /// Their id.
    pub id: Uuid,
    /// The name to log in with, lower case.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// The devices they see; null: all.
    pub scope: Option<Scope>,
    /// Whether they can log in.
    pub enabled: bool,
    /// Since when there is this account.
    pub created_at: DateTime<Utc>,
}

/// `POST /api/auth/register`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1 to 64 of a-z 0-9 . _ - @
    #[cfg_attr(feature = "openapi", schema(example = "night.shift"))]
    pub username: String,
    /// At least 12 characters.
    #[cfg_attr(feature = "openapi", schema(example = "correct horse battery staple"))]
    pub password: String,
    /// What they may do.
    pub role: Role,
    /// The devices they see; all if absent.
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// `PUT /api/users/{id}`: what is absent stays as it is, but for the scope, whose absence is all.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserEdit {
    /// What they may do.
    pub role: Role,
    /// The devices they see; all if absent or null.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Whether they can log in; false ends their sessions.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// A new password, which ends their sessions.
    #[serde(default)]
    pub password: Option<String>,
}

/// `POST /api/keys`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What the key is for.
    #[cfg_attr(feature = "openapi", schema(example = "grafana"))]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The devices it sees; all if absent.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// When it ends; never if absent.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The devices it sees; null: all.
    pub scope: Option<Scope>,
    /// When it ends.
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
    /// The secret, for `Authorization: Bearer` or `X-Api-Key`.
    pub secret: String,
}

/// A change that somebody made: who, what, from where. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its id, which grows with time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The user's or key's id; null for the system itself.
    pub actor_id: Option<Uuid>,
    /// The user's or key's name.
    #[cfg_attr(feature = "openapi", schema(example = "admin"))]
    pub actor: String,
    /// The address it came from.
    #[cfg_attr(feature = "openapi", schema(example = "192.0.2.7"))]
    pub address: Option<String>,
    /// The id of the request.
    pub request: Option<String>,
    /// What was done, as noun and verb.
    #[cfg_attr(feature = "openapi", schema(example = "device.update"))]
    pub action: String,
    /// To what.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub object: String,
    /// With what.
    pub detail: Value,
}
