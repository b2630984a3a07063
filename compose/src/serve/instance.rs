//! The identity of a process. It survives a restart, so that the process takes over its own leases and
//! cursors at once instead of waiting until they expire.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;

pub struct Instance {
    pub id: String,
    /// Held as long as the process lives; it marks the id as taken.
    _lock: Option<File>,
}

impl Instance {
    /// The instance of a name in a data directory. A second process of that name at the same time gets
    /// a new id.
    pub fn of(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dir.join(format!("instance-{name}"));
        let shown = || path.display().to_string();
        let mut options = File::options();
        let mut file =
            options.read(true).append(true).create(true).open(&path).with_context(shown)?;
        if file.try_lock().is_err() {
            return Ok(Self { id: uuid::Uuid::new_v4().to_string(), _lock: None });
        }
        let mut id = std::fs::read_to_string(&path).with_context(shown)?;
        if id.is_empty() {
            id = uuid::Uuid::new_v4().to_string();
            file.write_all(id.as_bytes()).with_context(shown)?;
        }
        Ok(Self { id, _lock: Some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_the_same_and_a_second_process_is_another() {
        let dir = tempfile::tempdir().expect("dir");
        let of = |name| Instance::of(dir.path(), name).expect("instance");
        let first = of("ingest");
        let (second, other) = (of("ingest"), of("query"));
        assert!(first.id != second.id && first.id != other.id);
        let id = first.id.clone();
        drop(first);
        assert_eq!(of("ingest").id, id);
    }
}
