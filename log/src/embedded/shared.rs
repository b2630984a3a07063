//! The opened store, shared by readers and the writer thread.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use acuvim_wire::record::LogTopic;
use fjall::{Database, Keyspace, PersistMode};

use super::{
    options::EmbeddedOptions,
    partition::Partition,
    store::{disk, keyspace},
};
use crate::error::{Error, ErrorKind};

pub(super) struct Shared {
    pub options: EmbeddedOptions,
    pub id: String,
    pub db: Database,
    /// Cursors, low marks, creation times of segments, and the log's id.
    pub meta: Keyspace,
    pub partitions: BTreeMap<(LogTopic, u32), Partition>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn open(options: EmbeddedOptions) -> Result<Self, Error> {
        move_incomplete_store(&options.path)?;
        let db = Database::builder(&options.path)
            // Readers usually follow the end, which is in memtables. The cache is for those that catch up.
            .cache_size(16 << 20)
            // A start has to replay what is in the journals.
            .max_journaling_size(64 << 20)
            // Flushes compete with the syncs of appends for the disk.
            .worker_threads(1)
            .open()
            .map_err(|e| opening(&options.path, &e))?;
        let meta = db.keyspace("meta", keyspace).map_err(disk)?;
        let id = id(&db, &meta)?;
        let mut partitions = BTreeMap::new();
        for topic in LogTopic::ALL {
            for number in 0..options.partitions {
                partitions.insert((topic, number), Partition::open(&db, &meta, topic, number)?);
            }
        }
        Ok(Self { options, id, db, meta, partitions })
    }

    pub fn partition(&self, topic: LogTopic, number: u32) -> Result<&Partition, Error> {
        self.partitions.get(&(topic, number)).ok_or_else(|| {
            let name = topic.name();
            Error::new(ErrorKind::Setup, format!("{name} has no partition {number}"))
        })
    }
}

/// Reads the log's id; a new log gets one.
fn id(db: &Database, meta: &Keyspace) -> Result<String, Error> {
    if let Some(id) = meta.get("id").map_err(disk)? {
        return Ok(String::from_utf8_lossy(&id).into_owned());
    }
    let id = uuid::Uuid::new_v4().to_string();
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(meta, "id", id.as_bytes());
    batch.commit().map_err(disk)?;
    Ok(id)
}

/// Moves a folder aside that has a journal but no file `version`. A crash leaves one while fjall creates the
/// store, and fjall refuses to open it ever after. It may also be a complete log that has lost that file, so
/// it is never deleted; the new log has another id, by which the processor notices the loss.
fn move_incomplete_store(path: &Path) -> Result<(), Error> {
    let setup = |e: std::io::Error| {
        Error::new(ErrorKind::Setup, format!("{}: {e} (the embedded log's folder)", path.display()))
    };
    let has_version = path.join("version").try_exists().map_err(setup)?;
    if has_journal(path).map_err(setup)? && !has_version {
        let aside = free_name_beside(path);
        tracing::warn!(
            path = %path.display(), moved_to = %aside.display(),
            "the log folder has a journal but no file `version`: its creation was interrupted, or the file \
             was lost; the folder is moved aside and a new log is created"
        );
        std::fs::rename(path, &aside).map_err(setup)?;
    }
    std::fs::create_dir_all(path).map_err(setup)
}

/// Whether the folder has one of fjall's journals: `0.jnl`, `1.jnl`.
fn has_journal(path: &Path) -> std::io::Result<bool> {
    if !path.try_exists()? {
        return Ok(false);
    }
    for file in std::fs::read_dir(path)? {
        if file?.path().extension().is_some_and(|e| e == "jnl") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An unused name: `log.aside-1` for `log`.
fn free_name_beside(path: &Path) -> PathBuf {
    let named = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".aside-{n}"));
        PathBuf::from(name)
    };
    (1..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(0))
}

fn opening(path: &Path, error: &fjall::Error) -> Error {
    let path = path.display();
    match error {
        fjall::Error::Locked => Error::new(
            ErrorKind::Setup,
            format!("{path} is in use by another process; the embedded log is for one"),
        ),
        fjall::Error::Io(e) => Error::new(ErrorKind::Setup, format!("{path}: {e}")),
        other => Error::new(ErrorKind::Corrupt, format!("{path} can't be read: {other}")),
    }
}

#[cfg(test)]
mod tests;
