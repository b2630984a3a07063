//! Files that compaction skips for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use object_store::path::Path;

use super::snapshot::File;

/// Long enough that a file which fails every merge costs little, short enough that one whose trouble
/// has passed is merged soon.
const COOLDOWN: Duration = Duration::from_secs(3600);

/// The files of a table that compaction skips: inputs of a merge that failed, so that one damaged file
/// does not hold up all others, and outputs of a merge that would come out the same again.
#[derive(Debug, Default)]
pub(crate) struct CompactionCooldown(Mutex<HashMap<Path, Instant>>);

impl CompactionCooldown {
    /// Skips files from now on.
    pub fn add(&self, files: Vec<Path>) {
        let mut cooling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cooling.extend(files.into_iter().map(|file| (file, Instant::now())));
    }

    /// The files that are not skipped.
    pub fn available(&self, files: &[File]) -> Vec<File> {
        let mut cooling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cooling.retain(|_, since| since.elapsed() < COOLDOWN);
        files.iter().filter(|f| !cooling.contains_key(&f.meta.location)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_cooldown_are_skipped_and_others_are_not() {
        let cooldown = CompactionCooldown::default();
        let files = [File::named("a", 0), File::named("b", 0)];
        cooldown.add(vec![Path::from("a")]);
        let available = cooldown.available(&files);
        let names: Vec<&str> = available.iter().map(|f| f.meta.location.as_ref()).collect();
        assert_eq!(names, ["b"]);
    }
}
