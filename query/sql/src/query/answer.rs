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
