//! The search for damaged files, after an error that one may have caused. Its result is kept for a while.

use std::time::{Duration, Instant};

use acuvim_lakehouse::{Lake, may_be_damage};
use acuvim_model::problem::Code;
use datafusion::error::DataFusionError;

use super::fault::from_engine;
use crate::error::QueryError;

/// The longest search.
const SEARCH_TIME: Duration = Duration::from_secs(10);

/// How long a result is used: a search reads the lake, and not every failed query may begin one.
const VALID_FOR: Duration = Duration::from_secs(300);

/// The result of the last search, and when it ended.
#[derive(Debug, Default)]
pub(super) struct KnownDamage(tokio::sync::Mutex<Option<(Instant, Vec<String>)>>);

impl KnownDamage {
    /// The engine's error for its caller, with the damaged file's name if it has met one.
    pub(super) async fn explain(&self, lake: &Lake, error: &DataFusionError) -> QueryError {
        if !may_be_damage(error) {
            return from_engine(error);
        }
        // The lock is held over the search: one searches for all who ask meanwhile.
        let mut known = self.0.lock().await;
        if known.as_ref().is_none_or(|(at, _)| at.elapsed() >= VALID_FOR) {
            // A search that fails says nothing about files: the error stands as it came.
            let Ok(files) = lake.damaged_files(SEARCH_TIME).await else {
                return from_engine(error);
            };
            *known = Some((Instant::now(), files));
        }
        match known.as_ref() {
            Some((_, files)) if !files.is_empty() => {
                let files = files.join(", ");
                let detail = format!("{files}: ask for other days or devices");
                QueryError::new(Code::Damaged, detail)
            }
            _ => from_engine(error),
        }
    }
}
