//! Sections `jwt` and `admin`: who may log in.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::text::within;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    pub secret: Option<String>,
    pub issuer: String,
    pub expiry_hours: i64,
    pub refresh_days: i64,
}

impl Jwt {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("jwt.expiry_hours", self.expiry_hours, 1, 24 * 30)?;
        within("jwt.refresh_days", self.refresh_days, 1, 365)?;
        self.secret.as_deref().map_or(Ok(()), check_secret)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub password: Option<String>,
}

impl Admin {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(password) = &self.password else { return Ok(()) };
        let length = password.chars().count();
        ensure!(length >= 12, "admin.password is too short: allowed are 12 characters or more");
        ensure!(
            !acuvim_query::is_common_password(password),
            "admin.password is one that many people have: choose another"
        );
        Ok(())
    }
}

/// A random key of 32 characters has more different ones than this; a repeated pattern has fewer.
const MIN_DIFFERENT_CHARACTERS: usize = 8;

/// Words of placeholders in examples, in lower case and without separators.
const PLACEHOLDERS: [&str; 14] = [
    "change",
    "placeholder",
    "example",
    "secretkey",
    "signingkey",
    "jwtsecret",
    "yoursecret",
    "yoursuper",
    "supersecret",
    "mysecret",
    "replace",
    "insert",
    "default",
    "password",
];

/// Refuses a key that can be guessed, because whoever has it can make tokens for any user.
fn check_secret(secret: &str) -> anyhow::Result<()> {
    let allowed = "allowed are 32 bytes or more that nobody can guess, as `openssl rand -hex 32` \
                   makes, or none: then one is made and kept in control";
    ensure!(secret.len() >= 32, "jwt.secret is too short: {allowed}");
    let plain = secret.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let placeholder = PLACEHOLDERS.iter().any(|word| plain.contains(word));
    ensure!(!placeholder, "jwt.secret is a placeholder: {allowed}");
    let different: BTreeSet<char> = secret.chars().collect();
    ensure!(
        different.len() >= MIN_DIFFERENT_CHARACTERS,
        "jwt.secret repeats a few characters again and again: {allowed}"
    );
    Ok(())
}
