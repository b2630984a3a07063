//! Rows in the formats of exports, piece by piece.

use std::sync::Arc;

use acuvim_model::ExportFormat;
use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::cells::{Cells, defused, object};

/// Rows of a row group of Parquet, which is held in memory.
const ROW_GROUP: usize = 65_536;

/// Lines of CSV whose cells are written together: few enough to stay in the processor's cache.
const BLOCK: usize = 64;

/// Writes batches in one format. The bytes are taken piece by piece.
pub struct Encoder {
    to: To,
    schema: SchemaRef,
}

enum To {
    Text(Vec<u8>, Lines),
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

/// Writes rows as lines of text. A row's line does not depend on the rows before it.
#[derive(Clone)]
pub struct Lines {
    form: Form,
    decimals: bool,
}

#[derive(Clone)]
enum Form {
    Csv,
    /// NDJSON, with each column's key as it stands in every line.
    Objects(Arc<Vec<Vec<u8>>>),
    /// JSON arrays, with a comma between two.
    Arrays,
}

impl Lines {
    /// Rows as JSON arrays of their cells, with commas between them: the items of a list.
    pub const fn arrays() -> Self {
        Self { form: Form::Arrays, decimals: false }
    }

    /// Writes the lines of these rows.
    pub fn write(&self, rows: &RecordBatch, out: &mut Vec<u8>) {
        match &self.form {
            Form::Csv => csv(rows, self.decimals, out),
            Form::Objects(names) => ndjson(rows, self.decimals, names, out),
            Form::Arrays => arrays(rows, self.decimals, out),
        }
    }
}

impl Encoder {
    /// An encoder for rows of a schema. Decimals are written as floats unless `decimals` is set.
    ///
    /// # Errors
    /// When the format can't hold the schema.
    pub fn new(
        format: ExportFormat,
        schema: &SchemaRef,
        decimals: bool,
    ) -> Result<Self, ArrowError> {
        let schema = if decimals { Arc::clone(schema) } else { floats(schema) };
        let names = || schema.fields().iter().map(|f| f.name().as_str());
        let to = match format {
            ExportFormat::Csv => {
                let mut line = Vec::new();
                for (n, name) in names().enumerate() {
                    if n > 0 {
                        line.push(b',');
                    }
                    // A query names its columns as it likes: a name can be a formula too.
                    defused(name, &mut line);
                }
                line.push(b'\n');
                To::Text(line, Lines { form: Form::Csv, decimals })
            }
            ExportFormat::Ndjson => {
                let key = |name: &str| format!("{}:", serde_json::Value::from(name)).into_bytes();
                let form = Form::Objects(Arc::new(names().map(key).collect()));
                To::Text(Vec::new(), Lines { form, decimals })
            }
            ExportFormat::Arrow => To::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema)?)),
            ExportFormat::Parquet => {
                // Higher levels take several times as long for a few percent of the size.
                let zstd = ZstdLevel::try_new(3)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(zstd))
                    .set_max_row_group_row_count(Some(ROW_GROUP))
                    .build();
                let writer =
                    ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
                To::Parquet(Box::new(writer))
            }
        };
        Ok(Self { to, schema })
    }

    /// The lines of a text format, whose rows can be written independently and put together afterwards.
    #[must_use]
    pub fn lines(&self) -> Option<Lines> {
        match &self.to {
            To::Text(_, lines) => Some(lines.clone()),
            To::Arrow(_) | To::Parquet(_) => None,
        }
    }

    /// Writes rows, whose columns are those of the encoder's schema.
    ///
    /// # Errors
    /// When the format can't hold them.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        match &mut self.to {
            To::Text(out, lines) => lines.write(rows, out),
            To::Arrow(writer) => writer.write(&converted(rows, &self.schema)?)?,
            To::Parquet(writer) => writer.write(&converted(rows, &self.schema)?)?,
        }
        Ok(())
    }

    /// The bytes that were written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.to {
            To::Text(out, _) => out,
            To::Arrow(writer) => writer.get_mut(),
            To::Parquet(writer) => writer.inner_mut(),
        })
    }

    /// The bytes that end the file.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        match self.to {
            To::Text(out, _) => Ok(out),
            To::Arrow(writer) => writer.into_inner(),
            To::Parquet(writer) => Ok(writer.into_inner()?),
        }
    }
}

fn csv(rows: &RecordBatch, decimals: bool, out: &mut Vec<u8>) {
    let mut columns: Vec<Cells<'_>> =
        rows.columns().iter().map(|column| Cells::of(column, decimals)).collect();
    // Rows may have no columns, and an iterator can't step by zero.
    let width = columns.len().max(1);
    let mut shorts = vec![None; BLOCK * width];
    for from in (0..rows.num_rows()).step_by(BLOCK) {
        let lines = from..rows.num_rows().min(from + BLOCK);
        for (n, cells) in columns.iter().enumerate() {
            let places = shorts.iter_mut().skip(n).step_by(width);
            cells.shorts(from, places.take(lines.len()));
        }
        for (row, shorts) in lines.zip(shorts.chunks_exact(width)) {
            for (n, (cells, short)) in columns.iter_mut().zip(shorts).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                match short {
                    Some(short) => short.append_to(out),
                    None => cells.csv(row, out),
                }
            }
            out.push(b'\n');
        }
    }
}

/// One object a line, without nulls.
fn ndjson(rows: &RecordBatch, decimals: bool, names: &[Vec<u8>], out: &mut Vec<u8>) {
    let columns = rows.columns().iter().map(|column| Cells::of(column, decimals));
    let mut columns: Vec<(Cells<'_>, &Vec<u8>)> = columns.zip(names).collect();
    for row in 0..rows.num_rows() {
        object(&mut columns, row, out);
        out.push(b'\n');
    }
}

fn arrays(rows: &RecordBatch, decimals: bool, out: &mut Vec<u8>) {
    let mut columns: Vec<Cells<'_>> =
        rows.columns().iter().map(|column| Cells::of(column, decimals)).collect();
    for row in 0..rows.num_rows() {
        out.extend_from_slice(if row > 0 { b",[" } else { b"[" });
        for (n, cells) in columns.iter_mut().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            if !cells.json(row, b"", out) {
                out.extend_from_slice(b"null");
            }
        }
        out.push(b']');
    }
}

/// The schema with floats in place of decimals.
fn floats(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Decimal128(..) => {
            Field::new(field.name(), DataType::Float64, field.is_nullable())
        }
        _ => field.as_ref().clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn converted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _, Decimal128Array, StringArray};
    use arrow::datatypes::Float64Type;

    fn rows() -> RecordBatch {
        let values = Decimal128Array::from(vec![Some(23_040), None, Some(-5)]);
        let values = values.with_precision_and_scale(9, 2).expect("fits");
        let names = StringArray::from(vec![Some("a"), Some("b,c"), None]);
        RecordBatch::try_from_iter([
            ("device_id", Arc::new(names) as _),
            ("voltage_l1_v", Arc::new(values) as _),
        ])
        .expect("rows")
    }

    fn encoded(format: ExportFormat, decimals: bool) -> Vec<u8> {
        let rows = rows();
        let mut encoder = Encoder::new(format, &rows.schema(), decimals).expect("encoder");
        let mut all = encoder.take();
        for _ in 0..2 {
            encoder.write(&rows).expect("write");
            all.extend(encoder.take());
        }
        all.extend(encoder.finish().expect("finish"));
        all
    }

    #[test]
    fn text_formats() {
        let csv = String::from_utf8(encoded(ExportFormat::Csv, false)).expect("text");
        let lines = "a,230.4\n\"b,c\",\n,-0.05\n";
        assert_eq!(csv, format!("device_id,voltage_l1_v\n{lines}{lines}"));
        let json = String::from_utf8(encoded(ExportFormat::Ndjson, true)).expect("text");
        let lines = "{\"device_id\":\"a\",\"voltage_l1_v\":230.40}\n{\"device_id\":\"b,c\"}\n\
                     {\"voltage_l1_v\":-0.05}\n";
        assert_eq!(json, format!("{lines}{lines}"));
    }

    #[test]
    fn a_json_row_is_an_array_of_every_cell() {
        let mut text = Vec::new();
        Lines::arrays().write(&rows(), &mut text);
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text, r#"["a",230.4],["b,c",null],[null,-0.05]"#);
    }

    #[test]
    fn lines_are_the_same_in_whichever_block_they_come() {
        let count = 2 * BLOCK + 7;
        let long = |row: usize| i64::MAX / (1 + i64::try_from(row).expect("few"));
        let whole = |row: usize| (!row.is_multiple_of(3)).then(|| long(row));
        let wholes = arrow::array::Int64Array::from_iter((0..count).map(whole));
        let decimal = |row: usize| (!row.is_multiple_of(5)).then_some(row as i128 - 70);
        let decimals = Decimal128Array::from_iter((0..count).map(decimal));
        let decimals = decimals.with_precision_and_scale(9, 1).expect("fits");
        let names = StringArray::from_iter_values((0..count).map(|row| format!("n{row}")));
        let rows = RecordBatch::try_from_iter([
            ("a", Arc::new(wholes) as _),
            ("b", Arc::new(decimals) as _),
            ("c", Arc::new(names) as _),
        ]);
        let mut lines = Vec::new();
        csv(&rows.expect("rows"), false, &mut lines);
        let wanted: String = (0..count)
            .map(|row| {
                let a = whole(row).map(|v| v.to_string()).unwrap_or_default();
                let b = decimal(row).map(|v| format!("{:.1}", v as f64 / 10.0));
                format!("{a},{},n{row}\n", b.unwrap_or_default())
            })
            .collect();
        assert_eq!(String::from_utf8(lines).expect("text"), wanted);
    }

    #[test]
    fn arrow_and_parquet_read_back() {
        let stream = encoded(ExportFormat::Arrow, false);
        let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None);
        let read: Vec<RecordBatch> =
            reader.expect("stream").collect::<Result<_, _>>().expect("rows");
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
        let values = read[0].column(1).as_primitive::<Float64Type>();
        assert!((values.value(0) - 230.4).abs() < 1e-12 && values.is_null(1));
        let file = bytes::Bytes::from(encoded(ExportFormat::Parquet, true));
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100);
        let read: Vec<RecordBatch> = reader.expect("file").collect::<Result<_, _>>().expect("rows");
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
        assert_eq!(read[0].schema().field(1).data_type(), &DataType::Decimal128(9, 2));
    }
}
