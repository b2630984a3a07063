//! Reads rows from a body and makes records of them, a few ahead of the log.

use std::{
    cell::Cell,
    io::{BufRead as _, BufReader, Read, Seek as _, Write as _},
    rc::Rc,
    sync::Arc,
};

use acuvim_model::{ImportRefusal, Imported};
use acuvim_tables::telemetry::Checker;
use acuvim_wire::{telemetry::Limits, text::trimmed};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{
    batch::{Batches, FullRecord},
    row::{Shape, cell},
};

/// The format of an imported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Ndjson,
    Parquet,
}

impl Format {
    /// The format of a media type, which is in lower case.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "text/csv" => Some(Self::Csv),
            "application/x-ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "application/vnd.apache.parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The longest line of JSON, in bytes.
const LINE: u64 = 1 << 20;

/// Refused rows that are listed with their reasons.
pub(super) const REFUSALS: usize = 100;

/// Bytes of the largest Parquet file. It is read from its end, and so is stored in a temporary file first.
const PARQUET: u64 = 4 << 30;

/// How rows are read and checked.
#[derive(Debug)]
pub(crate) struct Reader {
    pub format: Format,
    pub shape: Shape,
    pub partitions: u32,
    /// Limits that readings are checked against, as in the stream.
    pub limits: Limits,
}

impl Reader {
    /// Reads rows and sends records. Blocks the thread. Answers with counts of what was read, or with the fault
    /// of the file as a whole.
    pub fn rows(
        &self,
        body: impl Read,
        records: mpsc::Sender<Vec<FullRecord>>,
    ) -> Result<Imported, String> {
        let checker = Checker::new(self.limits, Arc::default());
        let (shape, batches) = (&self.shape, Batches::new(self.partitions));
        let done = Imported::default();
        let mut taker = Taker { shape, checker, batches, records, at: 0, done };
        let read = match self.format {
            Format::Csv => taker.csv(body),
            Format::Ndjson => taker.ndjson(BufReader::new(body)),
            Format::Parquet => taker.parquet(body),
        };
        // Also after an error: what was read is stored, and sending the file again stores nothing twice.
        let rest = taker.batches.finish(now());
        taker.give(rest)?;
        read.map(|()| taker.done)
    }
}

struct Taker<'a> {
    shape: &'a Shape,
    checker: Checker,
    batches: Batches,
    records: mpsc::Sender<Vec<FullRecord>>,
    /// The row that is read, blank lines counted.
    at: u64,
    done: Imported,
}

/// A body whose rows are limited in size: after a quote that is never closed, the reader would take the rest
/// of the file into memory.
struct Bounded<R> {
    body: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let text = format!("a row is over {LINE} bytes; is a quote not closed?");
            return Err(std::io::Error::other(text));
        }
        let most = usize::try_from(left).map_or(to.len(), |left| left.min(to.len()));
        let read = self.body.read(to.get_mut(..most).unwrap_or_default())?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

impl Taker<'_> {
    fn csv(&mut self, body: impl Read) -> Result<(), String> {
        let left = Rc::new(Cell::new(LINE));
        let mut reader = csv::Reader::from_reader(Bounded { body, left: Rc::clone(&left) });
        let headers = reader.headers().map_err(|e| format!("the header line: {e}"))?.clone();
        for column in [&self.shape.device_id, &self.shape.ts] {
            if !headers.iter().any(|name| name.trim() == column) {
                return Err(format!("the header line has no column {column}"));
            }
        }
        let mut record = csv::StringRecord::new();
        loop {
            left.set(LINE);
            match reader.read_record(&mut record) {
                Ok(true) => {
                    let device_id = self.shape.device_id.as_str();
                    let cells = headers.iter().zip(&record).map(|(name, text)| {
                        let (name, text) = (name.trim(), text.trim());
                        // An id stays as it is written: as a number, 12E5 would be 1200000.0.
                        let value = match name == device_id && !text.is_empty() {
                            true => Value::from(text),
                            false => cell(text),
                        };
                        (name.to_owned(), value)
                    });
                    self.take(Ok(cells.collect()))?;
                }
                Ok(false) => return Ok(()),
                Err(error) if matches!(error.kind(), csv::ErrorKind::Io(_)) => {
                    return Err(format!("behind row {}: {error}", self.at));
                }
                Err(error) => self.take(Err(error.to_string()))?,
            }
        }
    }

    fn ndjson(&mut self, mut body: impl std::io::BufRead) -> Result<(), String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut body).take(LINE).read_until(b'\n', &mut line);
            match read.map_err(|e| format!("the body broke off: {e}"))? {
                0 => return Ok(()),
                _ if line.len() as u64 >= LINE => {
                    return Err(format!("row {} is over {LINE} bytes", self.at + 1));
                }
                _ if trimmed(&line).is_empty() => self.at += 1,
                _ => {
                    let row = serde_json::from_slice::<Map<String, Value>>(trimmed(&line));
                    self.take(row.map_err(|e| format!("no JSON object: {e}")))?;
                }
            }
        }
    }

    fn parquet(&mut self, mut body: impl Read) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("the file can't be read: {e}");
        let mut file = tempfile::tempfile().map_err(|e| failed(&e))?;
        let length = std::io::copy(&mut (&mut body).take(PARQUET), &mut file);
        if length.map_err(|e| format!("the body broke off: {e}"))? >= PARQUET {
            return Err(format!("the file is over {} GiB: send it in parts", PARQUET >> 30));
        }
        file.flush().and_then(|()| file.rewind()).map_err(|e| failed(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            // Few rows at a time: each becomes JSON, which is many times as large.
            .and_then(|builder| builder.with_batch_size(1024).build())
            .map_err(|e| failed(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| failed(&e))?;
            // Through JSON, so that the rows of every format pass the same checks.
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            writer.write(&batch).and_then(|()| writer.finish()).map_err(|e| failed(&e))?;
            self.ndjson(writer.into_inner().as_slice())?;
        }
        Ok(())
    }

    fn take(&mut self, row: Result<Map<String, Value>, String>) -> Result<(), String> {
        self.done.rows += 1;
        self.at += 1;
        // A row that would become a dead letter is refused instead: its sender can correct it.
        let item = row.and_then(|row| self.shape.item(row)).and_then(|item| {
            let judged = self.checker.check(&item.json, &item.device_id, now());
            judged.map(|()| item).map_err(|(reason, detail)| match detail {
                Some(detail) => format!("{}: {detail}", reason.as_str()),
                None => reason.as_str().to_owned(),
            })
        });
        match item {
            Ok(item) => {
                let full = self.batches.push(item, self.at, now());
                self.give(full)
            }
            Err(message) => {
                self.done.refused += 1;
                if self.done.refusals.len() < REFUSALS {
                    self.done.refusals.push(ImportRefusal { row: self.at, message });
                }
                Ok(())
            }
        }
    }

    fn give(&mut self, records: Vec<FullRecord>) -> Result<(), String> {
        if records.is_empty() {
            return Ok(());
        }
        self.done.records += records.len() as u64;
        self.records.blocking_send(records).map_err(|_| "the log takes nothing".to_owned())
    }
}

#[cfg(test)]
mod tests;
