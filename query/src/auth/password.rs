//! People's passwords: argon2id, off the async threads, so many at a time.

use std::{sync::Arc, time::Duration};

use acuvim_schemas::problem::Code;
use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, PasswordHash, SaltString, rand_core::OsRng},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{App, problem::ApiError};

/// The shortest password taken.
const MIN_LENGTH: usize = 12;

/// Passwords that are tried first by whoever guesses: one a line, in small letters.
const COMMON: &str = include_str!("common_passwords.txt");

/// The longest: more is work without use.
const MAX_LENGTH: usize = 256;

/// How long a login may wait for those before it.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The hash to store: argon2id in PHC form, with OWASP's first choice of parameters
/// (19 MiB, 2 passes).
///
/// # Errors
/// When there is no randomness for a salt.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    let salt = SaltString::generate(&mut OsRng);
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Whether a password is one of those that many people have.
#[must_use]
pub fn is_common_password(password: &str) -> bool {
    let lower = password.to_lowercase();
    COMMON.lines().any(|common| common == lower)
}

/// Whether a password may be set.
pub(crate) fn check_new_password(
    field: &str,
    password: &str,
    username: &str,
) -> Result<(), ApiError> {
    if password.chars().count() < MIN_LENGTH || password.len() > MAX_LENGTH {
        let message = format!("{MIN_LENGTH} to {MAX_LENGTH} characters");
        return Err(ApiError::field(field, message));
    }
    let (lower, name) = (password.to_lowercase(), username.to_lowercase());
    let first = lower.chars().next();
    if lower.chars().all(|c| Some(c) == first) || (name.len() > 3 && lower.contains(&name)) {
        let message = "neither one character again and again, nor with the user name in it";
        return Err(ApiError::field(field, message));
    }
    if is_common_password(password) {
        return Err(ApiError::field(field, "many people have it: it is tried first"));
    }
    Ok(())
}

/// The hash of a new password, one of so many at a time.
pub(crate) async fn hashed(app: &App, password: String) -> Result<String, ApiError> {
    let permit = permit(app).await?;
    app.hash_threads
        .handle()
        .spawn_blocking(move || {
            let _permit = permit;
            hash_password(&password)
        })
        .await
        .map_err(|e| ApiError::internal(&e))?
        .map_err(|e| ApiError::internal(&e))
}

/// The right to take the memory of one hash. It goes along with the work, which goes on when nobody waits
/// for it any more. Who would wait too long is told to come back.
async fn permit(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let busy = || ApiError::new(Code::TooManyRequests, "too many logins at once; try again");
    match tokio::time::timeout(LONGEST_WAIT, Arc::clone(&app.hashing).acquire_owned()).await {
        Ok(permit) => {
            permit.map_err(|_| ApiError::new(Code::Unavailable, "the server is stopping"))
        }
        Err(_) => Err(busy()),
    }
}

/// Whether a password is the one behind a hash. Without a hash (an unknown user) it takes as long.
pub(crate) async fn verify_password(
    app: &App,
    password: String,
    hash: Option<String>,
) -> Result<bool, ApiError> {
    if password.len() > MAX_LENGTH {
        return Ok(false);
    }
    let permit = permit(app).await?;
    let threads = app.hash_threads.handle();
    let hashing = threads.spawn_blocking(move || {
        let _permit = permit;
        match hash {
            Some(hash) => verify(&password, &hash),
            None => {
                let _ = hash_password(&password);
                false
            }
        }
    });
    hashing.await.map_err(|e| ApiError::internal(&e))
}

/// Whether a password is the one behind a hash.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_verifies_its_own_password_alone() {
        let hash = hash_password("correct horse battery").expect("hash");
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(verify("correct horse battery", &hash));
        assert!(!verify("correct horse batterz", &hash));
        assert!(!verify("x", "not a hash"));
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        let check = |password: &str| check_new_password("password", password, "alice");
        assert!(check("eleven char").is_err());
        assert!(check("twelve chars").is_ok());
        assert!(check(&"xy".repeat(129)).is_err());
        assert!(check("xxxxxxxxxxxxxxxxxx").is_err());
        assert!(check("i am Alice indeed").is_err());
    }

    #[test]
    fn what_many_people_have_is_refused() {
        for common in
            ["Password1234", "qwertyuiop123", "1234567890123", "CorrectHorseBatteryStaple"]
        {
            assert!(check_new_password("password", common, "alice").is_err(), "{common}");
        }
        assert!(!is_common_password("correct horse battery"));
        for line in COMMON.lines() {
            assert!(line.chars().count() >= MIN_LENGTH, "{line} is refused for its length");
            assert_eq!(line, line.to_lowercase());
        }
    }
}
