//! Users' passwords: argon2id, off the async threads, a few at a time.

use std::{sync::Arc, time::Duration};

use acuvim_model::problem::Code;
use acuvim_query_sql::engine::WorkThreads;
use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, PasswordHash, SaltString, rand_core::OsRng},
};
use tokio::sync::Semaphore;

use crate::problem::ApiError;

/// Hashes that are computed at a time.
const AT_ONCE: usize = 2;

/// Characters of the shortest password.
const MIN_LENGTH: usize = 12;

/// Passwords that many people have, which are guessed first: one a line, in lower case.
const COMMON: &str = include_str!("common_passwords.txt");

/// Bytes of the longest password: hashing more is work without use.
const MAX_LENGTH: usize = 256;

/// How long a login may wait for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The hash to store: argon2id in PHC form, with OWASP's first choice of parameters
/// (19 MiB, 2 passes).
///
/// # Errors
/// When the system has no randomness for a salt.
pub fn hash_password(password: &str) -> Result<String, password_hash::Error> {
    let salt = SaltString::generate(&mut OsRng);
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Whether a password is a common one.
#[must_use]
pub fn is_common_password(password: &str) -> bool {
    let lower = password.to_lowercase();
    COMMON.lines().any(|common| common == lower)
}

/// Refuses passwords that must not be set.
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
    // Names of up to three letters are in too many words to be refused.
    if lower.chars().all(|c| Some(c) == first) || (name.len() > 3 && lower.contains(&name)) {
        let message = "neither one character again and again, nor with the user name in it";
        return Err(ApiError::field(field, message));
    }
    if is_common_password(password) {
        return Err(ApiError::field(field, "many people have it: it is tried first"));
    }
    Ok(())
}

/// Hashes and verifies passwords on threads of its own, a few at a time.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// Each hash takes 19 MiB.
    permits: Arc<Semaphore>,
    /// As many threads as permits: the allocator keeps for each thread the memory that a hash has taken.
    threads: WorkThreads,
}

impl Passwords {
    pub fn new() -> std::io::Result<Self> {
        let threads = WorkThreads::for_blocking("hash", AT_ONCE)?;
        Ok(Self { permits: Arc::new(Semaphore::new(AT_ONCE)), threads })
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: String) -> Result<String, ApiError> {
        let hash = self.run(move || hash_password(&password)).await?;
        hash.map_err(|e| ApiError::internal(&e))
    }

    /// Whether a password belongs to a hash. Without a hash, for an unknown user, it takes as long:
    /// the time must not tell which users exist.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        // No such password can have been set, and the cost of a hash grows with its length.
        if password.len() > MAX_LENGTH {
            return Ok(false);
        }
        self.run(move || match hash {
            Some(hash) => verify(&password, &hash),
            None => {
                let _ = hash_password(&password);
                false
            }
        })
        .await
    }

    /// The permit moves into the work, which continues even if its caller has gone.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = |_| ApiError::new(Code::TooManyRequests, "too many logins at once; try again");
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = tokio::time::timeout(LONGEST_WAIT, permit).await.map_err(busy)?;
        let stopping = |_| ApiError::new(Code::Unavailable, "the server is stopping");
        let permit = permit.map_err(stopping)?;
        let done = self.threads.handle().spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|e| ApiError::internal(&e))
    }
}

/// Whether a password belongs to a hash.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests;
