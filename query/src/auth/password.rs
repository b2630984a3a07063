//! People's passwords: argon2id, off the async threads, so many at a time.

use acuvim_schemas::problem::Code;
use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, phc::PasswordHash},
};

use crate::{App, problem::ApiError};

/// The shortest password taken.
const MIN_LENGTH: usize = 12;

/// The longest: more is work without use.
const MAX_LENGTH: usize = 256;

/// The hash to store: argon2id in PHC form, with OWASP's first choice of parameters
/// (19 MiB, 2 passes).
///
/// # Errors
/// When there is no randomness for a salt.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

/// Whether a password may be set.
pub(crate) fn check_new_password(password: &str) -> Result<(), ApiError> {
    if password.chars().count() < MIN_LENGTH || password.len() > MAX_LENGTH {
        let message = format!("{MIN_LENGTH} to {MAX_LENGTH} characters");
        return Err(ApiError::field("new_password", message));
    }
    Ok(())
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
    let _permit = app
        .hashing
        .acquire()
        .await
        .map_err(|_| ApiError::new(Code::Unavailable, "the server is stopping"))?;
    tokio::task::spawn_blocking(move || match hash {
        Some(hash) => verify(&password, &hash),
        None => {
            let _ = hash_password(&password);
            false
        }
    })
    .await
    .map_err(|e| ApiError::internal(&e))
}

fn verify(password: &str, hash: &str) -> bool {
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
        assert!(check_new_password("eleven char").is_err());
        assert!(check_new_password("twelve chars").is_ok());
        assert!(check_new_password(&"x".repeat(257)).is_err());
    }
}
