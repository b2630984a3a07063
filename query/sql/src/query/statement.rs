//! Statements as plans that may run.

use acuvim_model::problem::Problem;
use datafusion::{
    error::DataFusionError,
    execution::context::SQLOptions,
    physical_plan::{SendableRecordBatchStream, execute_stream},
    prelude::{DataFrame, SessionContext},
    scalar::ScalarValue,
    sql::parser::Statement,
};
use serde_json::Value;

use super::plan_size;
use crate::{
    error::QueryError,
    gate::{self, GateLimits},
};

/// A person's statement that is stored and runs again and again, under the checks of any query: limits
/// may have changed since it was stored.
///
/// # Errors
/// When it does not pass the gate, or can't be planned.
pub async fn checked_frame(
    context: &SessionContext,
    text: &str,
    limits: &GateLimits,
) -> Result<DataFrame, DataFusionError> {
    let refused = |problem: Problem| DataFusionError::Plan(problem.detail);
    let statement = *gate::check(text, limits).map_err(refused)?;
    let plan = context.state().statement_to_plan(statement).await?;
    plan_size::check(&plan)?;
    Ok(DataFrame::new(context.state(), plan))
}

/// Plans a statement that has passed the gate, and begins to execute it.
pub(super) async fn start(
    context: &SessionContext,
    statement: Statement,
    params: Vec<ScalarValue>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let state = context.state();
    let plan = state.statement_to_plan(statement).await?;
    // The gate has refused all of these already. This check is for a fault in the gate.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    plan_size::check(&plan)?;
    let wanted = plan.get_parameter_names()?.len();
    if wanted != params.len() {
        let detail = format!("the query has {wanted} parameters, {} were given", params.len());
        return Err(DataFusionError::Plan(detail));
    }
    let plan = if params.is_empty() { plan } else { plan.with_param_values(params)? };
    let plan = state.create_physical_plan(&plan).await?;
    execute_stream(plan, context.task_ctx())
}

/// A parameter as the engine takes it.
pub(super) fn parameter(value: &Value) -> Result<ScalarValue, QueryError> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(yes) => Ok(ScalarValue::Boolean(Some(*yes))),
        Value::String(text) => Ok(ScalarValue::Utf8(Some(text.clone()))),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => Ok(ScalarValue::Int64(Some(whole))),
            None => Ok(ScalarValue::Float64(n.as_f64())),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(QueryError::field("params", "a parameter is a text, number, boolean or null"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;
    use futures::TryStreamExt as _;
    use serde_json::json;

    async fn run(text: &str, params: Vec<ScalarValue>) -> Result<String, String> {
        let statement = DFParser::parse_sql(text).expect(text).pop_front().expect("a statement");
        let rows = start(&SessionContext::new(), statement, params).await;
        let rows = match rows {
            Ok(rows) => rows.try_collect::<Vec<_>>().await,
            Err(error) => Err(error),
        };
        let rows = rows.map_err(|error| error.to_string())?;
        Ok(json!(crate::encode::value_rows(&rows)).to_string())
    }

    #[test]
    fn a_parameter_keeps_its_type_and_its_digits() {
        for (value, wanted) in [
            (json!(null), ScalarValue::Null),
            (json!(true), ScalarValue::Boolean(Some(true))),
            (json!("x'; DROP"), ScalarValue::Utf8(Some("x'; DROP".to_owned()))),
            (json!(i64::MAX), ScalarValue::Int64(Some(i64::MAX))),
            (json!(i64::MIN), ScalarValue::Int64(Some(i64::MIN))),
            (json!(1.0), ScalarValue::Float64(Some(1.0))),
            (json!(u64::MAX), ScalarValue::Float64(Some(u64::MAX as f64))),
        ] {
            assert_eq!(parameter(&value), Ok(wanted), "{value}");
        }
        for bad in [json!([1]), json!({"a": 1}), json!([])] {
            let error = parameter(&bad).expect_err("no single value");
            assert_eq!(error.problem.errors[0].field, "params");
        }
    }

    #[tokio::test]
    async fn a_query_runs_with_as_many_parameters_as_it_names() {
        let one = || vec![ScalarValue::Int64(Some(7))];
        assert_eq!(run("SELECT CAST($1 AS BIGINT) + 1", one()).await, Ok("[[8]]".to_owned()));
        let twice = "SELECT CAST($1 AS BIGINT) + CAST($1 AS BIGINT)";
        assert_eq!(run(twice, one()).await, Ok("[[14]]".to_owned()), "one that is used twice");
        let text = vec![ScalarValue::Utf8(Some("' OR 1 = 1".to_owned()))];
        assert_eq!(run("SELECT 'x' = $1", text).await, Ok("[[false]]".to_owned()));
        for (sql, params, wanted) in [
            ("SELECT $1", vec![], "has 1 parameters, 0 were given"),
            ("SELECT 1", one(), "has 0 parameters, 1 were given"),
        ] {
            let error = run(sql, params).await.expect_err(sql);
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// The gate refuses these first; this is for a fault in the gate.
    #[tokio::test]
    async fn what_changes_anything_does_not_run_even_behind_the_gate() {
        for sql in [
            "CREATE TABLE x AS SELECT 1",
            "CREATE VIEW x AS SELECT 1",
            "COPY (SELECT 1) TO '/nowhere/x.csv'",
            "SET datafusion.execution.batch_size = 1",
            "PREPARE p AS SELECT 1",
        ] {
            let error = run(sql, vec![]).await.expect_err(sql);
            assert!(error.contains("not supported"), "{sql}: {error}");
        }
    }

    #[tokio::test]
    async fn a_stored_statement_passes_the_checks_of_any_query() {
        let context = SessionContext::new();
        let limits = GateLimits::default();
        let good = checked_frame(&context, "SELECT 1 AS x", &limits).await.expect("a frame");
        assert_eq!(good.collect().await.expect("rows")[0].num_rows(), 1);
        for (bad, why) in [
            ("DELETE FROM telemetry", "only a SELECT"),
            ("SELECT repeat('x', 9)", "repeat"),
            ("SELECT x FROM nowhere", "nowhere"),
        ] {
            let error = checked_frame(&context, bad, &limits).await.expect_err(bad).to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
