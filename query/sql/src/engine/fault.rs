//! The engine's errors as problems that a caller can act on.

use acuvim_lakehouse::{computing_error, is_store_trouble};
use acuvim_model::problem::Code;
use datafusion::error::DataFusionError;

use crate::error::QueryError;

/// The problem that an error of the engine is to the caller: a query to change, or something to wait for.
#[must_use]
pub fn from_engine(error: &DataFusionError) -> QueryError {
    let line = |text: String| {
        text.lines().next().unwrap_or_default().chars().take(500).collect::<String>()
    };
    // A division by zero, say, also where a reader of files computed it and wrapped the error.
    if let Some(computed) = computing_error(error) {
        return QueryError::new(Code::BadQuery, line(computed.to_string()));
    }
    let too_much = || {
        QueryError::new(
            Code::OutOfMemory,
            "the query needs more memory or disk than it may take; narrow its time or its columns",
        )
    };
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_much(),
        // DataFusion reports a spill over its cap as one of several plain IO errors.
        root if root.to_string().contains("exceeded the allowable limit") => too_much(),
        _ if is_store_trouble(error) => {
            tracing::info!(%error, "a query could not reach the lake");
            QueryError::new(Code::Unavailable, "the lake is away; try again")
        }
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Diagnostic(..)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..) => {
            QueryError::new(Code::BadQuery, line(error.find_root().to_string()))
        }
        _ => QueryError::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::error::ArrowError;
    use parquet::errors::ParquetError;

    #[test]
    fn a_query_that_divides_by_zero_is_told_so_wherever_it_was_computed() {
        let in_a_reader = ParquetError::from(ArrowError::ComputeError("divided by zero".into()));
        for error in [
            DataFusionError::from(ArrowError::DivideByZero),
            DataFusionError::from(ArrowError::CastError("'x' is no number".to_owned())),
            DataFusionError::from(in_a_reader),
            DataFusionError::Execution("a bad argument".to_owned()),
        ] {
            assert_eq!(from_engine(&error).problem.status, 400, "{error}");
        }
        let broken = DataFusionError::from(ParquetError::General("a broken page".to_owned()));
        assert_eq!(from_engine(&broken).problem.status, 503);
    }
}
