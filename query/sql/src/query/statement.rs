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
