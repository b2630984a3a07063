//! Where what is damaged is kept: it is moved, and never deleted.

use std::{
    collections::BTreeMap,
    fs::File,
    io::ErrorKind as IoErrorKind,
    path::{Path as FilePath, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};
use serde_json::Value;

use super::{ASIDE, HINT, LOG, table_log::unreadable};
use crate::{Error, ErrorKind, durable::DurableFiles};

/// A checkpoint repeats what the commits say: without it they are read instead, as long as they are
/// all there from an older one on, or from the first.
pub(super) fn set_torn_checkpoint_aside(
    folder: &FilePath,
    files: &[(i64, String)],
    made: &BTreeMap<i64, SystemTime>,
) -> Result<(), Error> {
    let mut checkpoints =
        files.iter().filter(|(_, name)| name.ends_with(".checkpoint.parquet")).rev();
    let Some((version, name)) = checkpoints.next() else { return Ok(()) };
    let path = folder.join(LOG).join(name);
    let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
    let error = match ParquetMetaDataReader::new().parse_and_finish(&file) {
        Ok(_) => return Ok(()),
        Err(ParquetError::External(error)) => {
            let text = format!("{} (lake.url): {error}", path.display());
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        Err(error) => error,
    };
    let from = checkpoints.next().map_or(0, |(older, _)| older + 1);
    if !(from..=*version).all(|version| made.contains_key(&version)) {
        return Err(Error::new(
            ErrorKind::Setup,
            format!(
                "{} (lake.url) is damaged ({error}) and the commits that it sums up are gone: put it \
                 back from a copy of the lake",
                path.display()
            ),
        ));
    }
    tracing::warn!(path = %path.display(), %error, "a damaged checkpoint is set aside");
    let aside = Aside::new(folder, DurableFiles::new());
    aside.take_hint_beyond(version - 1)?;
    aside.take(name)
}

/// The folder that the damaged files of a table go to.
pub(super) struct Aside {
    log: PathBuf,
    to: PathBuf,
    files: DurableFiles,
}

impl Aside {
    pub(super) fn new(table: &FilePath, files: DurableFiles) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let to = table.join(ASIDE).join(now.as_millis().to_string());
        Self { log: table.join(LOG), to, files }
    }

    pub(super) fn take(&self, name: &str) -> Result<(), Error> {
        let from = self.log.join(name);
        let taken = std::fs::create_dir_all(&self.to)
            .and_then(|()| std::fs::rename(&from, self.to.join(name)))
            .and_then(|()| self.files.keep_folder(&self.to))
            .and_then(|()| self.files.keep_folder(&self.log));
        taken.map_err(|e| unreadable(&from, &e))
    }

    /// Takes the file that names the newest checkpoint, unless that one stays.
    pub(super) fn take_hint_beyond(&self, to: i64) -> Result<(), Error> {
        let place = self.log.join(HINT);
        let hint = match std::fs::read(&place) {
            Ok(hint) => hint,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(&place, &error)),
        };
        let hint: Option<Value> = serde_json::from_slice(&hint).ok();
        let version = hint.as_ref().and_then(|hint| hint.get("version")).and_then(Value::as_i64);
        match version {
            Some(version) if version <= to => Ok(()),
            _ => self.take(HINT),
        }
    }
}
