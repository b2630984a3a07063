//! Splits a file of readings into parts of some thousand rows, one request each.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

/// Largest part: rows, and bytes, which its last row may exceed.
const ROWS: u64 = 10_000;
const BYTES: usize = 8 << 20;

pub struct Part {
    pub rows: u64,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

pub struct Parts {
    source: Source,
    size: u64,
    read: Arc<AtomicU64>,
}

enum Source {
    Csv(Box<csv::Reader<Counted>>),
    Lines(BufReader<Counted>),
    Parquet { reader: ParquetRecordBatchReader, rows: u64, all: u64, skip: u64 },
}

/// A file that counts the bytes read.
struct Counted(File, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(to)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Parts {
    /// Opens a file; its name tells the format.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let (size, read) = (file.metadata()?.len(), Arc::new(AtomicU64::new(0)));
        let counted = |file| Counted(file, Arc::clone(&read));
        let source = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Source::Csv(Box::new(csv::Reader::from_reader(counted(file)))),
            Some("ndjson" | "jsonl") => Source::Lines(BufReader::new(counted(file))),
            Some("parquet") => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
                let all = u64::try_from(builder.metadata().file_metadata().num_rows())?;
                let reader = builder.with_batch_size(usize::try_from(ROWS)?).build()?;
                Source::Parquet { reader, rows: 0, all, skip: 0 }
            }
            _ => bail!(
                "{}: a file's name ends with .csv, .ndjson, .jsonl or .parquet",
                path.display()
            ),
        };
        Ok(Self { source, size, read })
    }

    /// Skips rows that have been sent.
    pub fn skip(&mut self, rows: u64) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Csv(reader) => {
                let mut record = csv::ByteRecord::new();
                for _ in 0..rows {
                    // A row with errors counts too.
                    if matches!(reader.read_byte_record(&mut record), Ok(false)) {
                        break;
                    }
                }
            }
            Source::Lines(lines) => {
                let mut line = Vec::new();
                for _ in 0..rows {
                    line.clear();
                    lines.read_until(b'\n', &mut line)?;
                }
            }
            Source::Parquet { skip, .. } => *skip = rows,
        }
        Ok(())
    }

    /// The next part; `None` at the end.
    pub fn next_part(&mut self) -> anyhow::Result<Option<Part>> {
        let (rows, content_type, body) = match &mut self.source {
            Source::Csv(reader) => {
                let (rows, body) = csv_part(reader)?;
                (rows, "text/csv", body)
            }
            Source::Lines(lines) => {
                let (mut rows, mut body) = (0, Vec::new());
                while rows < ROWS && body.len() < BYTES && lines.read_until(b'\n', &mut body)? > 0 {
                    rows += 1;
                }
                (rows, "application/x-ndjson", body)
            }
            Source::Parquet { reader, rows, all, skip } => {
                let (mut count, mut body) = (0, Vec::new());
                for batch in reader.by_ref() {
                    let batch = batch?;
                    let gone = (*skip).min(batch.num_rows() as u64);
                    *skip -= gone;
                    *rows += batch.num_rows() as u64;
                    let share = *rows as f64 / (*all).max(1) as f64;
                    self.read.store((self.size as f64 * share) as u64, Ordering::Relaxed);
                    let first = usize::try_from(gone)?;
                    let batch = batch.slice(first, batch.num_rows() - first);
                    if batch.num_rows() > 0 {
                        count = batch.num_rows() as u64;
                        let mut writer = arrow::json::LineDelimitedWriter::new(&mut body);
                        writer.write(&batch)?;
                        writer.finish()?;
                        break;
                    }
                }
                (count, "application/x-ndjson", body)
            }
        };
        Ok((rows > 0).then_some(Part { rows, content_type, body }))
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// The next rows, after a copy of the header line.
fn csv_part(reader: &mut csv::Reader<Counted>) -> anyhow::Result<(u64, Vec<u8>)> {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    writer.write_byte_record(reader.byte_headers()?)?;
    let (mut rows, mut bytes, mut record) = (0, 0, csv::ByteRecord::new());
    while rows < ROWS && bytes < BYTES {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                writer.write_byte_record(&record)?;
                bytes += record.as_slice().len();
            }
            // A wrong number of cells: the server reports it with the row's number.
            Err(error) if !error.is_io_error() => writer.write_record(["", "", ""])?,
            Err(error) => return Err(error.into()),
        }
        rows += 1;
    }
    Ok((rows, writer.into_inner()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str, text: &str, skip: u64) -> Vec<(u64, String)> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        let mut parts = Parts::open(&path).expect("open");
        parts.skip(skip).expect("skip");
        let mut all = Vec::new();
        while let Some(part) = parts.next_part().expect("part") {
            all.push((part.rows, String::from_utf8(part.body).expect("text")));
        }
        all
    }

    #[test]
    fn rows_are_cut_and_passed_over() {
        let rows: String = (0..25_000).map(|n| format!("d1,{n}\n")).collect();
        let cut = parts("a.csv", &format!("device_id,ts\n{rows}"), 3);
        assert_eq!(cut.iter().map(|p| p.0).collect::<Vec<_>>(), [10_000, 10_000, 4997]);
        assert!(cut.iter().all(|p| p.1.starts_with("device_id,ts\n")));
        assert!(cut[0].1.starts_with("device_id,ts\nd1,3\n"));
        let lines: String = (0..10_001).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let cut = parts("a.ndjson", &lines, 0);
        assert_eq!(cut.iter().map(|p| p.0).collect::<Vec<_>>(), [10_000, 1]);
        assert!(parts("empty.csv", "device_id,ts\n", 0).is_empty());
    }
}
