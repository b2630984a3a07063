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
        self.add_at(files, Instant::now());
    }

    fn add_at(&self, files: Vec<Path>, now: Instant) {
        let mut cooling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cooling.extend(files.into_iter().map(|file| (file, now)));
    }

    /// The files that are not skipped.
    pub fn available(&self, files: &[File]) -> Vec<File> {
        self.available_at(files, Instant::now())
    }

    fn available_at(&self, files: &[File], now: Instant) -> Vec<File> {
        let mut cooling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Also forgets files that are no longer in the table, so the map stays small.
        cooling.retain(|_, since| now.duration_since(*since) < COOLDOWN);
        files.iter().filter(|f| !cooling.contains_key(&f.meta.location)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(cooldown: &CompactionCooldown, files: &[File], now: Instant) -> Vec<String> {
        let available = cooldown.available_at(files, now);
        available.iter().map(|f| f.meta.location.to_string()).collect()
    }

    #[test]
    fn files_in_cooldown_are_skipped_and_others_are_not() {
        let cooldown = CompactionCooldown::default();
        let files = [File::named("a", 0), File::named("b", 0)];
        cooldown.add(vec![Path::from("a")]);
        let available = cooldown.available(&files);
        let names: Vec<&str> = available.iter().map(|f| f.meta.location.as_ref()).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn a_file_comes_back_after_an_hour_and_not_before() {
        let (cooldown, begun) = (CompactionCooldown::default(), Instant::now());
        let files = [File::named("a", 0), File::named("b", 0)];
        cooldown.add_at(vec![Path::from("a")], begun);
        let almost = begun + COOLDOWN - Duration::from_nanos(1);
        assert_eq!(available(&cooldown, &files, almost), ["b"]);
        assert_eq!(available(&cooldown, &files, begun + COOLDOWN), ["a", "b"]);
        assert!(cooldown.0.lock().expect("lock").is_empty(), "it is forgotten");
    }

    #[test]
    fn another_failure_begins_the_hour_anew() {
        let (cooldown, begun) = (CompactionCooldown::default(), Instant::now());
        let files = [File::named("a", 0)];
        let half = begun + COOLDOWN / 2;
        cooldown.add_at(vec![Path::from("a")], begun);
        cooldown.add_at(vec![Path::from("a")], half);
        assert!(available(&cooldown, &files, begun + COOLDOWN).is_empty());
        assert_eq!(available(&cooldown, &files, half + COOLDOWN), ["a"]);
    }
}
