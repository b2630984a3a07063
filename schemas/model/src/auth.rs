//! The bodies of the login routes.

use serde::{Deserialize, Serialize};

use crate::users::UserInfo;

/// `POST /api/auth/login`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The name of the user, in lower case.
    #[cfg_attr(feature = "openapi", schema(example = "admin"))]
    pub username: String,
    /// The password of the user.
    pub password: String,
}

/// Answer to a login or a refresh.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginResponse {
    /// A JWT for `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`, the scheme for the header `Authorization`.
    pub token_type: String,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    /// Good for one `POST /api/auth/refresh`.
    pub refresh_token: String,
    /// The user who is logged in.
    pub user: UserInfo,
}

/// `POST /api/auth/refresh` and `POST /api/auth/logout`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The refresh token of the last login or refresh.
    pub refresh_token: String,
}

/// `POST /api/auth/password`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password that is replaced.
    pub current_password: String,
    /// The new password, at least 12 characters.
    pub new_password: String,
}
