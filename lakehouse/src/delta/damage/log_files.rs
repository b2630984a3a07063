//! The files in a table's `_delta_log` on the local disk.

use std::{
    io::{Error as IoError, ErrorKind as IoErrorKind},
    path::Path as FilePath,
};

use crate::error::{Error, ErrorKind};

/// The folder of a table's commits.
pub(super) const LOG: &str = "_delta_log";

/// A disk that fails to answer is reported as away: its silence is no evidence of a damaged file.
pub(super) fn io_failed(path: &FilePath, error: IoError) -> Error {
    let text = format!("{} (lake.url): {error}", path.display());
    Error::new(ErrorKind::Unavailable, text).caused_by(error)
}

/// The files of a table's log with the version in their names, by version; none if there is no log.
pub(super) fn log_files(log: &FilePath) -> Result<Option<Vec<(i64, String)>>, Error> {
    let entries = match std::fs::read_dir(log) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_failed(log, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| io_failed(log, e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let version = name.get(..20).and_then(|digits| digits.parse::<i64>().ok());
        // Names with `#` belong to uploads that were never completed.
        if let Some(version) = version.filter(|_| !name.contains('#')) {
            files.push((version, name.to_owned()));
        }
    }
    files.sort();
    Ok(Some(files))
}

/// The length of a file; none if it does not exist.
pub(super) fn file_length(path: &FilePath) -> Result<Option<u64>, Error> {
    match path.metadata() {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failed(path, error)),
    }
}

#[cfg(test)]
mod tests;
