//! The quarantine of a table: damaged log files are moved there, never deleted.

use std::{
    collections::BTreeMap,
    fs::File,
    io::ErrorKind as IoErrorKind,
    path::{Path as FilePath, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};
use serde_json::Value;

use super::log_files::{LOG, io_failed};
use crate::{
    delta::durable::DurableFiles,
    error::{Error, ErrorKind},
};

/// The folder of damaged files in the folder of their table. Delta readers and vacuum ignore names that
/// begin with `_`.
const QUARANTINE: &str = "_damaged";

/// The file that names the newest checkpoint.
const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// Moves the newest checkpoint into the quarantine if it is damaged.
///
/// A checkpoint only repeats what commits say. Without it readers use the commits, provided that all of
/// them exist from an older checkpoint or the first version on.
pub(super) fn quarantine_torn_checkpoint(
    folder: &FilePath,
    files: &[(i64, String)],
    commits: &BTreeMap<i64, SystemTime>,
) -> Result<(), Error> {
    let mut checkpoints =
        files.iter().filter(|(_, name)| name.ends_with(".checkpoint.parquet")).rev();
    let Some((version, name)) = checkpoints.next() else { return Ok(()) };
    let path = folder.join(LOG).join(name);
    // Only the footer is read: it is written last, so a file that was cut off has none.
    let Err(error) = read_footer(&path)? else { return Ok(()) };
    let from = checkpoints.next().map_or(0, |(older, _)| older + 1);
    if !(from..=*version).all(|version| commits.contains_key(&version)) {
        let text = format!(
            "{} (lake.url) is damaged ({error}) and the commits that it sums up are gone: put it back \
             from a copy of the lake",
            path.display()
        );
        return Err(Error::new(ErrorKind::Setup, text).caused_by(error));
    }
    tracing::warn!(path = %path.display(), %error, "a damaged checkpoint is set aside");
    let quarantine = Quarantine::new(folder, DurableFiles::new());
    // The name goes before the file, or a reader in between would look for a checkpoint that is
    // gone.
    quarantine.take_last_checkpoint_after(version - 1)?;
    quarantine.take(name)
}

/// Reads the footer of a Parquet file. The inner error says that the file is damaged, the outer one that
/// the disk did not answer.
pub(super) fn read_footer(path: &FilePath) -> Result<Result<(), ParquetError>, Error> {
    let file = File::open(path).map_err(|e| io_failed(path, e))?;
    match ParquetMetaDataReader::new().parse_and_finish(&file) {
        Ok(_) => Ok(Ok(())),
        Err(ParquetError::External(error)) => {
            let text = format!("{} (lake.url): {error}", path.display());
            Err(Error::new(ErrorKind::Unavailable, text).caused_by(error))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// The folder that damaged log files of a table are moved to.
pub(super) struct Quarantine {
    log: PathBuf,
    to: PathBuf,
    files: DurableFiles,
}

impl Quarantine {
    /// A folder named by the time, so that repeated moves do not overwrite one another.
    pub(super) fn new(table: &FilePath, files: DurableFiles) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let to = table.join(QUARANTINE).join(now.as_millis().to_string());
        Self { log: table.join(LOG), to, files }
    }

    pub(super) fn take(&self, name: &str) -> Result<(), Error> {
        let from = self.log.join(name);
        let taken = std::fs::create_dir_all(&self.to)
            .and_then(|()| std::fs::rename(&from, self.to.join(name)))
            // The new entry before the old one, so that after another power cut the file has a name.
            .and_then(|()| self.files.sync_folder(&self.to))
            .and_then(|()| self.files.sync_folder(&self.log));
        taken.map_err(|e| io_failed(&from, e))
    }

    /// Takes the file that names the newest checkpoint, unless it names one up to a version.
    pub(super) fn take_last_checkpoint_after(&self, version: i64) -> Result<(), Error> {
        let path = self.log.join(LAST_CHECKPOINT);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_failed(&path, error)),
        };
        let json: Option<Value> = serde_json::from_slice(&text).ok();
        let named = json.as_ref().and_then(|json| json.get("version")).and_then(Value::as_i64);
        match named {
            // A file that can't be read is taken too: without it readers list the log, which is
            // slower and always right.
            Some(named) if named <= version => Ok(()),
            _ => self.take(LAST_CHECKPOINT),
        }
    }
}

#[cfg(test)]
mod tests;
