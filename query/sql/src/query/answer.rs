//! A query's rows as its answer.

use std::{sync::Arc, time::Instant};

use acuvim_model::{ExportFormat, SqlColumn, SqlFormat};
use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use serde_json::json;

use crate::{
    answer::{Pieces, object_with, pieces_of},
    encode::{Encoder, Lines},
    engine::ViewState,
};

/// The facts in an answer besides its rows.
#[derive(Debug, Clone)]
pub struct AnswerFacts {
    /// How many rows it has.
    pub row_count: usize,
    /// Whether there were more.
    pub truncated: bool,
    /// The state of the lake that it was computed from.
    pub view: ViewState,
}

/// The rows of a query, with the facts about them.
#[derive(Debug)]
pub(super) struct Rows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub facts: AnswerFacts,
    /// When the request came.
    pub begun: Instant,
}

impl Rows {
    /// The answer's body, each piece of it written when it is asked for.
    pub fn into_pieces(self, format: SqlFormat) -> Result<Pieces, ArrowError> {
        match format {
            SqlFormat::Json => Ok(self.into_json()),
            SqlFormat::Csv => self.into_csv(),
        }
    }

    fn columns(&self) -> Vec<SqlColumn> {
        let column = |f: &Arc<arrow::datatypes::Field>| SqlColumn {
            name: f.name().clone(),
            r#type: f.data_type().to_string(),
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// A [`SqlResponse`](acuvim_model::SqlResponse).
    fn into_json(self) -> Pieces {
        let head = json!({ "columns": self.columns() });
        let Self { batches, facts, begun, .. } = self;
        let lines = Lines::arrays();
        let items = pieces_of(batches, move |rows, out| lines.write(rows, out));
        object_with(&head, "rows", items, move || {
            json!({
                "row_count": facts.row_count,
                "truncated": facts.truncated,
                "lake_version": facts.view.lake_version,
                "watermark": facts.view.watermark,
                "elapsed_ms": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        })
    }

    /// The CSV of an export of the same rows.
    fn into_csv(self) -> Result<Pieces, ArrowError> {
        let mut encoder = Encoder::new(ExportFormat::Csv, &self.schema, false)?;
        let head = encoder.take();
        let lines = encoder.lines();
        let rows = pieces_of(self.batches, move |rows, out| {
            if let Some(lines) = &lines {
                lines.write(rows, out);
            }
        });
        Ok(Box::new(std::iter::once(head).chain(rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_model::SqlResponse;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    fn rows(count: i64) -> Rows {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        let texts = (0..count).map(|n| (n % 2 == 0).then(|| format!("=n,{n}")));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let columns = [("n", numbers, false), ("text", texts, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("rows");
        let view = ViewState { lake_version: 9, watermark: vec![4, 5] };
        let row_count = batch.num_rows();
        let facts = AnswerFacts { row_count, truncated: true, view };
        Rows { schema: batch.schema(), batches: vec![batch], facts, begun: Instant::now() }
    }

    fn written(rows: Rows, format: SqlFormat) -> Vec<u8> {
        rows.into_pieces(format).expect("pieces").flatten().collect()
    }

    #[test]
    fn a_json_answer_is_a_response_however_many_rows_it_has() {
        // More rows than one piece has.
        for count in [0, 1, 1024, 3000] {
            let text = written(rows(count), SqlFormat::Json);
            let read: SqlResponse = serde_json::from_slice(&text).expect("a response");
            let types: Vec<_> = read.columns.iter().map(|c| (&*c.name, &*c.r#type)).collect();
            assert_eq!(types, [("n", "Int64"), ("text", "Utf8")]);
            assert_eq!(read.rows.len(), read.row_count);
            assert!(read.rows.iter().zip(0..).all(|(row, n)| row[0] == json!(n)), "in order");
            assert_eq!((read.truncated, read.lake_version), (true, 9));
            assert_eq!(read.watermark, [4, 5]);
        }
    }

    #[test]
    fn a_csv_answer_is_the_export_of_the_same_rows() {
        let text = String::from_utf8(written(rows(2000), SqlFormat::Csv)).expect("text");
        assert_eq!(text.lines().count(), 2001, "a header and every row");
        assert!(text.starts_with("n,text\n0,\"'=n,0\"\n1,\n2,"), "{}", &text[..40]);
        assert_eq!(written(rows(0), SqlFormat::Csv), b"n,text\n");
    }
}
