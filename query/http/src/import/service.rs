//! Running an import, one at a time.

use std::sync::Arc;

use acuvim_log::Log;
use acuvim_model::{Imported, problem::Code};
use acuvim_query_sql::Sql;
use acuvim_wire::telemetry::Limits;
use axum::body::Body;
use futures::TryStreamExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{
    outcome::Outcomes,
    read::{Format, Reader},
    row::Shape,
};
use crate::problem::ApiError;

/// Appends that wait while more rows are read.
const AHEAD: usize = 4;

/// Imports. Clones share the log and the permit.
#[derive(Debug, Clone)]
pub(crate) struct Imports {
    log: Arc<dyn Log>,
    sql: Sql,
    limits: Limits,
    /// Held by the import that runs.
    permit: Arc<Semaphore>,
}

impl Imports {
    pub fn new(log: Arc<dyn Log>, sql: Sql, limits: Limits) -> Self {
        Self { log, sql, limits, permit: Arc::new(Semaphore::new(1)) }
    }

    /// Appends a file's rows to the log, and answers once the outcome of each is known.
    pub async fn run(
        &self,
        format: Format,
        shape: Shape,
        body: Body,
    ) -> Result<Imported, ApiError> {
        let busy =
            |_| ApiError::new(Code::TooManyRequests, "an import runs already; try again later");
        let _permit = self.permit.try_acquire().map_err(busy)?;
        let body = body.into_data_stream().map_err(std::io::Error::other);
        let body = SyncIoBridge::new(StreamReader::new(body));
        // Bounded: a file is read no faster than the log takes it.
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let (partitions, limits) = (self.log.partitions(), self.limits);
        let reader = Reader { format, shape, partitions, limits };
        // The readers of CSV and Parquet block.
        let reader = tokio::task::spawn_blocking(move || reader.rows(body, sender));
        let mut outcomes = Outcomes::new(Arc::clone(&self.log), self.sql.clone());
        let mut appended = Ok(());
        while let Some(records) = receiver.recv().await {
            appended = outcomes.append(records).await;
            if appended.is_err() {
                // The reader ends at its next record: nobody receives it.
                break;
            }
        }
        drop(receiver);
        let read = reader.await.map_err(|e| ApiError::internal(&e))?;
        appended?;
        let mut done = read.map_err(|detail| ApiError::new(Code::BadRequest, detail))?;
        outcomes.finish(&mut done).await?;
        Ok(done)
    }
}
