//! The engine's errors as problems that a caller can act on.

use acuvim_lakehouse::{computing_error, is_store_trouble};
use acuvim_model::problem::Code;
use datafusion::error::DataFusionError;

use crate::error::QueryError;

/// The problem that an error of the engine is to the caller: a query to change, or something to wait for.
#[must_use]
pub fn from_engine(error: &DataFusionError) -> QueryError {
    // The engine may quote a whole plan, and adds backtraces where they are on.
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

    fn problem(error: &DataFusionError) -> (u16, String) {
        let problem = from_engine(error).problem;
        (problem.status, problem.detail)
    }

    #[test]
    fn what_is_wrong_with_a_query_is_one_short_line() {
        let long = format!("{}\nat line 5 of plan.rs", "é".repeat(900));
        let (status, detail) = problem(&DataFusionError::Plan(long));
        assert_eq!(status, 400);
        assert!(detail.chars().count() == 500 && !detail.contains('\n'), "{detail}");
        let (_, empty) = problem(&DataFusionError::Plan(String::new()));
        assert!(!empty.contains('\n'), "{empty}");
        // What a step of the plan adds to an error is about the engine, not about the query.
        let named = DataFusionError::Plan("no field x".to_owned());
        let (status, detail) = problem(&named.context("while running a step"));
        assert!(status == 400 && detail.contains("no field x"), "{detail}");
    }

    #[test]
    fn too_much_memory_and_too_much_disk_are_the_same_to_the_caller() {
        let memory = DataFusionError::ResourcesExhausted("a pool of 256 MB".to_owned());
        let spill =
            "The used disk space during the spilling process has exceeded the allowable limit";
        let spill = DataFusionError::IoError(std::io::Error::other(spill));
        for error in [memory.context("while sorting"), spill] {
            let (status, detail) = problem(&error);
            assert_eq!(status, 422, "{error}");
            assert!(detail.contains("narrow its time"), "{detail}");
        }
    }

    #[test]
    fn hosts_and_files_are_for_the_log_alone() {
        let away = std::io::Error::other("connect to 10.0.0.7:9000 (lake-internal): refused");
        let internal = DataFusionError::Internal("/var/lib/lake/part-0.parquet".to_owned());
        for (error, status) in [(DataFusionError::IoError(away), 503), (internal, 500)] {
            let (got, detail) = problem(&error);
            assert_eq!(got, status, "{error}");
            assert!(!detail.contains("10.0.0.7") && !detail.contains("/var/lib"), "{detail}");
        }
    }
}
