//! Files that are left alone for a while: those whose merge failed, so that one damaged file does not
//! hold up all others, and those that a merge has made no fewer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use object_store::path::Path;

use crate::snapshot::File;

/// For how long.
const REST: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<HashMap<Path, Instant>>);

impl Aside {
    /// Leaves files alone from now on.
    pub fn put(&self, files: Vec<Path>) {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        aside.extend(files.into_iter().map(|file| (file, Instant::now())));
    }

    /// The files that are not left alone.
    pub fn others(&self, files: &[File]) -> Vec<File> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|_, since| since.elapsed() < REST);
        files.iter().filter(|f| !aside.contains_key(&f.meta.location)).cloned().collect()
    }
}
